"""Bounds and the truth behind the counts, over thousands of blocks.

Seeds are fixed. A comparison with `allowed` has a false-alarm probability of 1e-6; there are some
110. That a bound which may fail 200 times of 20,000 does so less than 50 times has less than 1e-20.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import decoy_coverage
import pair_coverage
from decoy_coverage import allowed, too_many, violations
from theorems import CASES, THEOREMS

sys.path.pop(0)

BLOCKS = {"lim2014": 400, "decoy2-exact": 200, "decoy1-exact": 200}  # of each case; slow
DIMMER = {"lim2014": 0.9, "decoy2-exact": 0.9, "decoy1-exact": 0.7}  # what is found out
MANY = 20_000  # blocks that are a few numbers


@pytest.mark.parametrize("case", ["healthy", "faint", "intercepted", "split", "fixed"])
@pytest.mark.parametrize("theorem", THEOREMS)
def test_bounds_fail_no_more_often_than_their_epsilons_say(theorem, case):
    found = violations(THEOREMS[theorem], CASES[theorem][case], BLOCKS[theorem], seed=20)

    assert too_many(THEOREMS[theorem], found, BLOCKS[theorem]) == {}


@pytest.mark.parametrize("theorem", THEOREMS)
def test_light_that_is_not_as_bright_as_the_settings_say_is_found_out(theorem):
    """The same counts; the decoys are believed to hold fewer photons than they do.

    A tenth is enough with two decoys; with one, errors of the optics pass for vacuum events, which
    leaves the bound of single photons below the truth by more than that.
    """
    case = CASES[theorem]["healthy"]
    mu1, mu2, *rest = case.settings.intensities
    believed = replace(case.settings, intensities=(mu1, DIMMER[theorem] * mu2, *rest))
    truths = case.draws(case.settings, 50, np.random.default_rng(21))

    found = decoy_coverage.compared(THEOREMS[theorem], believed, truths)

    assert "s_key_1" in too_many(THEOREMS[theorem], found, 50)


@pytest.mark.parametrize(
    ("theorem", "bound"),
    [(name, bound) for name in ("lim2014", "decoy1-exact") for bound in THEOREMS[name].rests_on],
)
def test_a_bound_on_the_wrong_side_is_counted(theorem, bound):
    case = CASES[theorem]["healthy"]
    truths = case.draws(case.settings, 40, np.random.default_rng(22))
    none, many = np.full(40, -1), np.full(40, 10**9)
    above = decoy_coverage.AT_MOST | {"phi": "phase_errors"}
    beyond = {above[bound]: many} if bound in above else {bound: none}

    found = decoy_coverage.compared(THEOREMS[theorem], case.settings, replace(truths, **beyond))

    assert found[bound] == 40
    assert bound in too_many(THEOREMS[theorem], found, 40)


@pytest.mark.parametrize("errors", pair_coverage.ERRORS)
def test_phase_errors_of_pairs_are_beyond_their_bound_as_often_as_sampling_says(errors):
    """Exact sampling is not a loose bound: it fails nearly as often as it may."""
    found = pair_coverage.violations(errors, MANY, seed=23)

    mean = MANY * pair_coverage.EPSILON
    assert mean / 4 < found <= allowed(MANY, pair_coverage.EPSILON)


def test_expected_counts_are_beyond_their_bounds_as_often_as_exact_tails_say():
    for beyond in decoy_coverage.expected_counts_beyond(MANY, seed=24):
        assert MANY * decoy_coverage.EPSILON / 4 < beyond <= allowed(MANY, decoy_coverage.EPSILON)


@pytest.mark.parametrize("n_vacuum", [500, 2_000])
def test_vacuum_events_are_beyond_their_bounds_as_often_as_exact_tails_say(n_vacuum):
    for beyond in decoy_coverage.vacuum_events_beyond(n_vacuum, MANY, seed=25):
        assert MANY * decoy_coverage.EPSILON / 4 < beyond <= allowed(MANY, decoy_coverage.EPSILON)
