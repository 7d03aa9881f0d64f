"""Numbers of the ziggurat against their laws, by chi-squared.

Each statistic is turned into a standard normal number and must stay below 5: the false-alarm
probability is below 6e-7 for each, with fixed seeds.
"""

from math import erf, exp, sqrt

import numpy as np
import pytest
from numba import njit

from qkd_sim_link.sampling.ziggurat import (
    EXP_DENSITY,
    EXP_ENDS,
    EXPONENTIAL_EDGE,
    LAYERS,
    NORMAL_DENSITY,
    NORMAL_EDGE,
    NORMAL_ENDS,
    next_exponential,
    next_normal,
    normal_tail,
)

N = 4_000_000
Z_MAX = 5.0


def drawn(one) -> np.ndarray:
    @njit
    def many(seed, n):
        counter, out = np.uint64(seed), np.empty(n)
        for i in range(n):
            counter, out[i] = one(counter)
        return out

    return many(2026, N)


def z_of(values: np.ndarray, edges: np.ndarray, below: list[float]) -> float:
    seen = np.diff(np.concatenate(([0], np.searchsorted(np.sort(values), edges), [values.size])))
    expected = values.size * np.diff(np.concatenate(([0.0], below, [1.0])))
    assert expected.min() > 10
    chi2, degrees = float(np.sum((seen - expected) ** 2 / expected)), edges.size
    return ((chi2 / degrees) ** (1 / 3) - 1 + 2 / (9 * degrees)) / sqrt(2 / (9 * degrees))


def test_exponential_numbers_follow_their_law_into_the_tail():
    edges = np.concatenate([np.linspace(0.002, 7.6, 400), np.linspace(7.7, 10.7, 11)])

    assert z_of(drawn(next_exponential), edges, [1 - exp(-x) for x in edges]) < Z_MAX


def test_normal_numbers_follow_their_law_into_both_tails():
    edges = np.concatenate(
        [np.linspace(-4.2, -3.66, 8), np.linspace(-3.6, 3.6, 400), np.linspace(3.66, 4.2, 8)]
    )

    assert z_of(drawn(next_normal), edges, [0.5 + erf(x / sqrt(2)) / 2 for x in edges]) < Z_MAX


def test_the_tail_beyond_the_edge_is_that_of_the_normal_law():
    edges = np.linspace(0.02, 1.5, 60)
    whole = 1 - erf(NORMAL_EDGE / sqrt(2))
    below = [1 - (1 - erf((NORMAL_EDGE + x) / sqrt(2))) / whole for x in edges]

    assert z_of(drawn(normal_tail), edges, below) < Z_MAX


@pytest.mark.parametrize(
    ("ends", "density", "tail"),
    [
        (EXP_ENDS, EXP_DENSITY, exp(-EXPONENTIAL_EDGE)),
        (NORMAL_ENDS, NORMAL_DENSITY, sqrt(np.pi / 2) * (1 - erf(NORMAL_EDGE / sqrt(2)))),
    ],
)
def test_all_layers_have_the_area_of_the_lowest_one(ends, density, tail):
    lowest = ends[1] * density[1] + tail

    areas = ends[1:LAYERS] * (density[2:] - density[1:LAYERS])

    np.testing.assert_allclose(areas, lowest, rtol=1e-9)
    assert density[LAYERS] == 1


def test_successive_numbers_are_not_correlated():
    values = drawn(next_normal)

    for lag in (1, 2, 3):
        assert abs(float(np.mean(values[lag:] * values[:-lag]))) < Z_MAX / sqrt(N)
