"""Limits of a mean: against exact rational sums, in many digits, and where they are needed."""

import sys
from fractions import Fraction
from itertools import product
from math import comb
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.proofs.clopper_pearson import mean_at_least, mean_at_most

sys.path.insert(0, str(Path(__file__).parent))
from exact_tails import at_least, at_most

sys.path.pop(0)

A_LITTLE = Fraction(1, 10**8)  # relative: a limit that much sharper would be none


def exactly_at_least(k, mean, n):
    p = Fraction(mean) / n
    return sum(comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1))


def exactly_at_most(k, mean, n):
    return exactly_at_least(n - k, n - Fraction(mean), n)


@pytest.mark.parametrize("eps", [0.2, 1e-3, 1e-11, 1e-20])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 40])
def test_every_limit_of_few_trials_is_exact_and_outward(n, eps):
    for count in range(n + 1):
        low, high = mean_at_least(count, n, eps), mean_at_most(count, n, eps)
        if count > 1:
            assert exactly_at_least(count, low, n) <= eps
            sharper = Fraction(low) * (1 + A_LITTLE)
            assert exactly_at_least(count, sharper, n) > eps or low == count - 1
        else:
            assert low == 0
        if count < n - 1:
            assert exactly_at_most(count, high, n) <= eps
            sharper = Fraction(high) * (1 - A_LITTLE)
            assert exactly_at_most(count, sharper, n) > eps or high == count + 1
        else:
            assert high == n


@pytest.mark.parametrize(
    ("count", "n", "eps"),
    [
        (0, 10**10, 1e-20),
        (5, 10**6, 1e-4),
        (3000, 10**6, 1e-11),
        (10**5, 10**6, 1e-20),
        (10**6 - 3, 10**6, 1e-11),
        (10**5, 10**10, 1e-11),
    ],
)
def test_limits_of_many_trials_in_many_digits(count, n, eps):
    if count > 1:
        low = mean_at_least(count, n, eps)
        assert at_least(count, low, n) <= eps < at_least(count, low * (1 + 1e-9), n)
    if count < n - 1:
        high = mean_at_most(count, n, eps)
        assert at_most(count, high, n) <= eps < at_most(count, high * (1 - 1e-9), n)


@pytest.mark.parametrize("count", [10**3, 10**9, 5 * 10**9, 10**10 - 1000])
def test_ten_thousand_million_trials_take_no_time(count):
    """0.3 s on a busy machine, where it takes 1 ms else and a sum of all terms minutes."""
    begun = perf_counter()

    low, high = mean_at_least(count, 10**10, 1e-20), mean_at_most(count, 10**10, 1e-20)

    assert perf_counter() - begun < 0.3
    sigma = (count * (1 - count / 10**10)) ** 0.5
    assert 8 < (count - low) / sigma < 11
    assert 8 < (high - count) / sigma < 11


def distribution(chances):
    """P(so many of independent trials with these chances succeed), exactly."""
    found = [Fraction(1)]
    for p in map(Fraction, chances):
        fails, succeeds = [*(f * (1 - p) for f in found), 0], [0, *(f * p for f in found)]
        found = [a + b for a, b in zip(fails, succeeds, strict=True)]
    return found


trials = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.5])), max_size=9)


@settings(max_examples=150, deadline=None)
@given(trials, st.integers(0, 4), st.sampled_from([0.24, 0.1, 1e-3, 1e-9]))
def test_unequal_trials_are_beyond_a_limit_no_more_often_than_allowed(chances, spare, eps):
    """The law that the decoy bounds rest on: Hoeffding 1956, Anderson and Samuels 1967."""
    mean, n = sum(map(Fraction, chances)), len(chances) + spare
    found = distribution(chances)

    above = sum(p for k, p in enumerate(found) if mean_at_least(k, n, eps) > mean)
    below = sum(p for k, p in enumerate(found) if mean_at_most(k, n, eps) < mean)

    assert above <= eps
    assert below <= eps


def test_without_clipping_to_one_event_the_law_above_would_not_hold():
    """One certain trial among two: a plain Clopper-Pearson limit fails more often than allowed.

    P(X >= 1) of the unequal trials (eps, 0) is eps; of two equal ones of that mean it is less, so
    the plain limit is above eps for the count 1 and fails with a probability above it.
    """
    eps = 0.2
    plain = next(m / 1000 for m in range(999, 0, -1) if exactly_at_least(1, m / 1000, 2) <= eps)

    assert plain > eps
    assert mean_at_least(1, 2, eps) == 0


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([1e-3, 1e-11]))
def test_limits_move_with_the_count_and_against_epsilon(count, rest, eps):
    n = count + rest
    low, high = mean_at_least(count, n, eps), mean_at_most(count, n, eps)

    assert 0 <= low <= count <= high <= n
    assert mean_at_least(count + 1, n + 1, eps) >= low
    assert mean_at_least(count, n, eps / 10) <= low
    assert mean_at_most(count, n, eps / 10) >= high
    assert mean_at_least(count, n + 1, eps) <= low * (1 + 1e-9)
    assert mean_at_most(count, n + 1, eps) >= high * (1 - 1e-9)


def test_all_outcomes_of_two_unequal_trials_by_hand():
    for p, q in product((0.0, 0.25, 1.0), repeat=2):
        assert distribution([p, q]) == [(1 - p) * (1 - q), p + q - 2 * p * q, p * q]
