"""Outward rounding, and the binomial probabilities whose error it allows for."""

from fractions import Fraction
from math import inf, nextafter

import mpmath as mp
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.proofs.binomial import log_error, log_probability
from qkd_core.proofs.entropy import binary_entropy
from qkd_core.proofs.rounding import down, exp_down, exp_up, up

fractions = st.fractions(-(10**12), 10**12).filter(lambda x: x != 0)


@given(fractions)
def test_a_fraction_lies_between_two_doubles_that_are_neighbours_or_equal(value):
    low, high = down(value), up(value)

    assert Fraction(low) <= value <= Fraction(high)
    assert high in (low, nextafter(low, inf))


@given(st.floats(-20, 20))
def test_the_exponential_lies_between_two_fractions_that_are_close(x):
    low, high = exp_down(x), exp_up(x)

    with mp.workdps(60):
        exact = mp.exp(mp.mpf(x))
        assert mp.mpf(low.numerator) / low.denominator <= exact
        assert exact <= mp.mpf(high.numerator) / high.denominator
    assert high / low - 1 < Fraction(1, 10**37)


@given(st.integers(1, 10**10), st.data())
def test_a_logarithm_of_a_probability_is_as_good_as_it_says(n, data):
    """Near the mean, in its tails, and where it is tiny."""
    mean = data.draw(st.floats(1e-9, 1 - 1e-9)) * n
    far = data.draw(st.sampled_from([0.0, 1.0, 8.0, 40.0])) * (mean * (1 - mean / n)) ** 0.5
    sign = data.draw(st.sampled_from([-1, 1]))
    k = min(n, max(0, round(mean + sign * far)))

    with mp.workdps(50):
        p = mp.mpf(mean) / n
        exact = mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)
        exact += k * mp.log(p) + (n - k) * mp.log1p(-p)
        found = log_probability(k, mean, n)
        assert abs(found - exact) <= log_error(k, mean)


@given(st.floats(0, 0.5))
def test_the_entropy_is_as_good_as_the_bit_for_rounding_assumes(p):
    with mp.workdps(40):
        q = mp.mpf(p)
        exact = -(q * mp.log(q, 2) + (1 - q) * mp.log(1 - q, 2)) if p > 0 else mp.mpf(0)
        assert abs(mp.mpf(binary_entropy(p)) - exact) <= mp.mpf(2) ** -50
