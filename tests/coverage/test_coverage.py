"""Bounds and the truth behind the counts, over thousands of blocks.

Seeds are fixed. A comparison with `allowed` has a false-alarm probability of 1e-6; there are some
70. That a bound which may fail 200 times of 20,000 does so less than 50 times has less than 1e-20.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import decoy_coverage
import pair_coverage
from decoy_coverage import RESTS_ON, allowed, cases, too_many, violations
from theorems import THEOREMS

sys.path.pop(0)

CASES = cases()
BLOCKS = {"lim2014": 400, "decoy2-exact": 200}  # of each case; exact tails take their time
MANY = 20_000  # blocks that are a few numbers


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("theorem", THEOREMS)
def test_bounds_fail_no_more_often_than_their_epsilons_say(theorem, case):
    found = violations(*THEOREMS[theorem], CASES[case], BLOCKS[theorem], seed=20)

    assert too_many(found, BLOCKS[theorem]) == {}


@pytest.mark.parametrize("theorem", THEOREMS)
def test_light_that_is_not_as_bright_as_the_settings_say_is_found_out(theorem):
    """The same counts; the decoys are believed to hold a tenth fewer photons than they do."""
    case = CASES["healthy"]
    mu1, mu2, mu3 = case.settings.intensities
    believed = replace(case, settings=replace(case.settings, intensities=(mu1, 0.9 * mu2, mu3)))
    truths = case.draws(case.settings, 50, np.random.default_rng(21))

    found = decoy_coverage.compared(*THEOREMS[theorem], believed.settings, truths)

    assert "s_key_1" in too_many(found, 50)


@pytest.mark.parametrize("bound", RESTS_ON)
def test_a_bound_on_the_wrong_side_is_counted(bound):
    case = CASES["healthy"]
    truths = case.draws(case.settings, 40, np.random.default_rng(22))
    none, many = np.full(40, -1), np.full(40, 10**9)
    name, beyond = {"phi": ("phase_errors", many), "v_test_1": ("v_test_1", many)}.get(
        bound, (bound, none)
    )

    found = decoy_coverage.compared(
        *THEOREMS["lim2014"], case.settings, replace(truths, **{name: beyond})
    )

    assert found[bound] == 40
    assert bound in too_many(found, 40)


@pytest.mark.parametrize("errors", pair_coverage.ERRORS)
def test_phase_errors_of_pairs_are_beyond_their_bound_as_often_as_sampling_says(errors):
    """Exact sampling is not a loose bound: it fails nearly as often as it may."""
    found = pair_coverage.violations(errors, MANY, seed=23)

    mean = MANY * pair_coverage.EPSILON
    assert mean / 4 < found <= allowed(MANY, pair_coverage.EPSILON)


def test_expected_counts_are_beyond_their_bounds_as_often_as_exact_tails_say():
    for beyond in decoy_coverage.expected_counts_beyond(MANY, seed=24):
        assert MANY * decoy_coverage.EPSILON / 4 < beyond <= allowed(MANY, decoy_coverage.EPSILON)
