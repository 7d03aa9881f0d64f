from fractions import Fraction
from math import comb, log

from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.proofs.sampling import errors_outside_max


def at_most(x, errors, k, n):
    """P[a sample of k of n + k items, ``errors`` of them wrong, holds at most x], exactly."""
    ways = sum(comb(errors, j) * comb(n + k - errors, k - j) for j in range(min(x, errors, k) + 1))
    return Fraction(ways, comb(n + k, k))


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 60), st.integers(1, 80), st.data())
def test_the_bound_is_the_exact_quantile(k, n, data):
    x = data.draw(st.integers(0, k))
    eps = 10.0 ** -data.draw(st.floats(0.5, 20))

    outside = errors_outside_max(x, k, n, log(eps))

    # a part in 1e9 for the rounding of lgamma
    assert at_most(x, x + outside, k, n) >= Fraction(eps) * Fraction(1 - 1e-9)
    if outside < n:
        assert at_most(x, x + outside + 1, k, n) <= Fraction(eps) * Fraction(1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.data())
def test_more_errors_seen_or_more_certainty_never_give_a_smaller_bound(k, n, data):
    x = data.draw(st.integers(0, k - 1))
    log_eps = -data.draw(st.floats(1, 60))

    bound = errors_outside_max(x, k, n, log_eps)

    assert bound <= errors_outside_max(x + 1, k, n, log_eps)
    assert bound <= errors_outside_max(x, k, n, log_eps - 5)
    assert 0 <= bound <= n
