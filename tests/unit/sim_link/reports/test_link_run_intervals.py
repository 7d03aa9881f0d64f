"""Intervals of reports against a peer, and against what they claim.

Coverage is counted over 1,500 draws with a claim of 0.9: a right interval of exactly this coverage
would fall below 0.85 with a probability below 1e-9.
"""

from functools import cache

import numpy as np
import pytest
from scipy import stats

from qkd_sim_link.reports.intervals import (
    of_poisson,
    of_proportion,
    of_quantile,
    of_rate,
    student,
)

DRAWS, CLAIM, LEAST = 1500, 0.9, 0.85


def covered(intervals, truth) -> float:
    return float(np.mean([each.low <= truth <= each.high for each in intervals]))


@pytest.mark.parametrize("freedom", [1, 4, 9, 99])
@pytest.mark.parametrize("confidence", [0.9, 0.99, 1 - 1e-7])
def test_students_t_is_that_of_scipy(freedom, confidence):
    assert student(freedom, confidence) == pytest.approx(
        stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-6
    )


@pytest.mark.parametrize("count", [0, 3, 1000])
def test_poisson_limits_hold_those_of_garwood_and_are_little_wider(count):
    found, eps = of_poisson(count, 0.99), 0.005
    low = stats.chi2.ppf(eps, 2 * count) / 2 if count else 0.0
    high = stats.chi2.ppf(1 - eps, 2 * count + 2) / 2

    assert 0 <= found.low <= low * (1 + 1e-9)
    assert high * (1 - 1e-9) <= found.high <= 1.001 * high + 0.01


def test_proportions_rates_and_quantiles_hold_the_truth_as_often_as_they_claim():
    rng = np.random.default_rng(5)

    proportion = cache(lambda k: of_proportion(k, 200, CLAIM))
    poisson_mean = cache(lambda k: of_poisson(k, CLAIM))
    proportions = [proportion(k) for k in rng.binomial(200, 0.03, DRAWS).tolist()]
    poisson = [poisson_mean(k) for k in rng.poisson(20.0, DRAWS).tolist()]
    spread = 1 + 0.2 * rng.standard_normal((DRAWS, 10))  # of blocks that fade
    counts = rng.poisson(1000 * np.maximum(spread, 0))
    rates = [of_rate(each, 20.0, CLAIM) for each in counts.tolist()]
    waits = np.sort(rng.geometric(0.01, (DRAWS, 300)), axis=1)
    medians = [of_quantile(each, 0.5, CLAIM) for each in waits]

    assert covered(proportions, 0.03) > LEAST
    assert covered(poisson, 20.0) > LEAST
    assert covered(rates, 500.0) > LEAST
    assert covered(medians, stats.geom.ppf(0.5, 0.01)) > LEAST


def test_poisson_limits_alone_would_not_hold_where_blocks_fade():
    rng = np.random.default_rng(6)
    counts = rng.poisson(1000 * np.maximum(1 + 0.2 * rng.standard_normal((300, 10)), 0))

    assert covered([of_rate(each[:4], 4.0, CLAIM) for each in counts.tolist()], 1000.0) < 0.5
    assert covered([of_rate(each, 10.0, CLAIM) for each in counts.tolist()], 1000.0) > 0.85
