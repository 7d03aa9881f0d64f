from fractions import Fraction
from math import comb, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.photons.health_cutoffs import (
    count_cutoff,
    min_entropy,
    proportion_cutoff,
    repetition_cutoff,
)


def at_least(k, n, p):
    """P(X >= k) for X binomial (n, p), exactly."""
    p = Fraction(p)
    return sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


@pytest.mark.parametrize(
    ("alpha", "published"),
    [
        (2.0**-30, [325, 422, 459, 477, 488, 494, 499, 502, 505, 507, 508, 509, 510, 511, 512]),
        (2.0**-60, [355, 447, 479, 494, 502, 507, 510, 512]),
    ],
)
def test_proportion_cutoffs_are_those_that_jitterentropy_publishes(alpha, published):
    """Its tables jent_apt_cutoff_lookup and ..._permanent_lookup: windows of 512, H = 1 / osr."""
    assert [proportion_cutoff(alpha, 1 / osr) for osr in range(1, len(published) + 1)] == published


@pytest.mark.parametrize("h", [1, 4, 8])
@pytest.mark.parametrize("exponent", [20, 30, 60])
def test_proportion_cutoffs_are_the_least_that_keep_the_false_alarm(h, exponent):
    """Beside exact fractions; only the 511 samples after the first can differ from it."""
    p, alpha = 2.0**-h, 2.0**-exponent

    cutoff = proportion_cutoff(alpha, h)

    assert at_least(cutoff - 1, 511, p) <= alpha < at_least(cutoff - 2, 511, p)


@pytest.mark.parametrize(
    ("exponent", "h", "cutoff"),
    [(20, 1, 21), (30, 1, 31), (30, 4, 9), (30, 8, 5), (20, 2.5, 9)],
)
def test_repetition_cutoffs_follow_the_formula_of_the_standard(exponent, h, cutoff):
    """By hand: 1 + ceil(exponent / h)."""
    assert repetition_cutoff(2.0**-exponent, h) == cutoff


@given(
    n=st.integers(1, 300),
    p=st.sampled_from([1 / 2, 1 / 16, 1 / 256]),
    exponent=st.integers(1, 80),
)
def test_so_many_events_are_never_likelier_than_stated(n, p, exponent):
    cutoff = count_cutoff(n, p, 2.0**-exponent)

    assert n * p < cutoff <= n + 1
    assert at_least(cutoff, n, p) <= Fraction(2) ** -exponent


@pytest.mark.parametrize("p", [1 / 2, 1 / 256])
@pytest.mark.parametrize("n", [1_000, 10_000])
def test_the_bound_asks_for_little_more_than_the_exact_tail_would(n, p):
    alpha = 2.0**-40
    cutoff = count_cutoff(n, p, alpha)

    exact, mean = cutoff, n * p
    while exact_tail_fits(exact - 1, n, p, alpha):
        exact -= 1

    assert exact <= cutoff <= mean + 1.1 * (exact - mean) + 1


def exact_tail_fits(k, n, p, alpha):
    """P(X >= k) <= ``alpha``, with integers: p is a power of 1/2."""
    q = round(1 / p)
    term, total = comb(n, k) * (q - 1) ** (n - k), 0
    for i in range(k, n + 1):
        total += term
        term = term * (n - i) // ((i + 1) * (q - 1))
        if term << 80 < total:
            break
    return log2(total) - n * log2(q) <= log2(alpha)


def test_min_entropy_is_that_of_the_upper_bound_of_confidence():
    """By hand: 8 of 20 give 0.4 + 2.576 sqrt(0.4 * 0.6 / 19) = 0.6895, and -log2 of that 0.5363."""
    assert min_entropy(8, 20) == pytest.approx(0.5363, abs=5e-5)
    assert min_entropy(20, 20) == 0
    assert min_entropy(10**6, 256 * 10**6) == pytest.approx(8, abs=0.005)
