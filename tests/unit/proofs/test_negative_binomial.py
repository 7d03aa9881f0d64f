"""Events that nobody counts: against exact sums, whatever number of events there may be."""

from fractions import Fraction
from math import comb

import pytest

from qkd_core.proofs.negative_binomial import others_at_most

EVERY = 400  # events: beyond, a tail is far below


def at_most(counted, trials, p):
    """P(B <= counted) of so many trials, exactly."""
    p, last = Fraction(p), min(counted, trials)
    return sum(comb(trials, j) * p**j * (1 - p) ** (trials - j) for j in range(last + 1))


@pytest.mark.parametrize("eps", [0.2, 1e-3, 1e-11])
@pytest.mark.parametrize("p", [Fraction(1, 10), Fraction(1, 2), Fraction(9, 10)])
@pytest.mark.parametrize("counted", [0, 1, 5])
def test_it_is_the_least_number_with_an_exact_tail_of_eps(counted, p, eps):
    """Where most events are counted it may be one more: see "one or more" in `clopper_pearson`."""
    u = others_at_most(counted, p, eps, 10**6)

    assert at_most(counted, u + counted + 1, p) <= eps
    spare = 1 if p > Fraction(1, 2) else 0
    assert u <= spare or at_most(counted, u + counted - spare, p) > eps


@pytest.mark.parametrize("p", [Fraction(1, 4), Fraction(2, 3)])
@pytest.mark.parametrize("counted", [0, 4])
def test_no_number_of_events_makes_more_of_them_likelier_than_eps(counted, p):
    """Whoever chooses how many there are, T: more than u of the others beside few counted ones."""
    eps = 1e-3
    u = others_at_most(counted, p, eps, 10**6)

    for trials in range(EVERY):
        fewest = min(counted, trials - u - 1)
        assert fewest < 0 or at_most(fewest, trials, p) <= eps


def test_what_bounds_them_anyway_bounds_them():
    p = Fraction(1, 1000)
    free = others_at_most(7, p, 1e-9, 10**9)

    assert [others_at_most(7, p, 1e-9, most) for most in (0, 10, free - 1)] == [0, 10, free - 1]
    assert others_at_most(7, p, 1e-9, free) == others_at_most(7, p, 1e-9, free + 1) == free


def test_it_grows_with_what_is_counted_and_with_certainty_and_falls_with_the_share():
    base = others_at_most(100, Fraction(1, 20), 1e-9, 10**9)

    assert others_at_most(101, Fraction(1, 20), 1e-9, 10**9) > base
    assert others_at_most(100, Fraction(1, 20), 1e-12, 10**9) > base
    assert others_at_most(100, Fraction(1, 19), 1e-9, 10**9) < base
    assert 19 * 100 < base < 19 * 190  # the mean, and nine deviations more
