"""The BBM92 length against exact rational and 60-digit arithmetic, and the laws it has to keep."""

import sys
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from math import comb, floor, log2
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.proofs.bbm92 import Premises, bounds, errors_accepted

sys.path.insert(0, str(Path(__file__).parent))
from exact_tails import hypergeometric_at_most

sys.path.pop(0)

DIGITS = 60


def sized(n_key, n_test, errors, **changes):
    held = {"leak_ec": 0, "eps_sec": 1e-10, "eps_cor": 1e-15} | changes
    return Premises(n_key=n_key, n_test=n_test, test_errors_max=errors, **held)


def passes_unsafely(premises, wrong, phase_errors_max):
    """P[the test passes, and more than so many of all ``wrong`` pairs are in the key], exactly."""
    n, k = premises.n_key, premises.n_test
    least_in_test = max(0, wrong - n)
    most_in_test = min(premises.test_errors_max, wrong - phase_errors_max - 1, k)
    ways = sum(
        comb(wrong, j) * comb(n + k - wrong, k - j) for j in range(least_in_test, most_in_test + 1)
    )
    return Fraction(ways, comb(n + k, k))


@pytest.mark.parametrize("eps_sec", [0.3, 1e-2, 1e-4])
@pytest.mark.parametrize(("n", "k"), [(40, 20), (25, 60), (60, 60), (7, 30)])
def test_no_number_of_wrong_pairs_passes_unsafely_more_often_than_allowed(n, k, eps_sec):
    for errors in (0, 1, 3, k // 4):
        premises = sized(n, k, errors, eps_sec=eps_sec)
        allowed = Fraction(31 * Fraction(eps_sec), 64) ** 2
        found = bounds(premises).phase_errors_max

        def worst(phase_errors, premises=premises):
            return max(passes_unsafely(premises, w, phase_errors) for w in range(n + k + 1))

        assert worst(found) <= allowed
        if found > 0:
            assert worst(found - 1) > allowed  # and it is the least such number


def length_in_many_digits(premises, phase_errors):
    """The length of the docstring, from the phase errors on, in decimal arithmetic."""
    with localcontext() as context:
        context.prec = DIGITS

        def lg(x):
            return Decimal(x).ln() / Decimal(2).ln()

        n = Decimal(premises.n_key)
        phi = Decimal(phase_errors) / n
        entropy = n + n * (phi * lg(phi) + (1 - phi) * lg(1 - phi)) if phi else n
        hashing = 2 * lg(1 / (2 * Decimal(premises.eps_sec) / 32))
        verification = 1 - lg(Decimal(premises.eps_cor))
        return entropy - premises.leak_ec - hashing - verification - 1


@pytest.mark.parametrize(
    ("n", "k", "errors"), [(10_000, 3821, 94), (100_000, 7955, 170), (10**7, 10**6, 20_601)]
)
def test_the_length_in_many_digits(n, k, errors):
    premises = sized(n, k, errors, leak_ec=n // 8)
    out = bounds(premises)

    exact = length_in_many_digits(premises, out.phase_errors_max)

    assert out.length == pytest.approx(float(exact), rel=1e-12)
    assert out.n_secret == floor(exact)
    assert 2 * out.eps_test + out.eps_hash == pytest.approx(premises.eps_sec, rel=1e-15)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1_000, 10**6),
    st.integers(500, 10**5),
    st.floats(0, 0.1),
    st.integers(3, 15),
)
def test_the_length_is_never_above_the_exact_one(n, k, rate, sec):
    """With the phase errors from the definition of sampling, in 30 digits, and no bit taken off."""
    premises = sized(n, k, int(k * rate), eps_sec=10.0**-sec)
    out = bounds(premises)
    if out.phi == 0.5:
        return
    failing = (Fraction(31, 64) * Fraction(premises.eps_sec)) ** 2
    wrong = premises.test_errors_max + out.phase_errors_max
    passing = [hypergeometric_at_most(premises.test_errors_max, wrong + i, k, n) for i in (-1, 1)]

    assert passing[1] <= float(failing)  # one error more than the bound is as rare as agreed
    assert passing[0] > 0.5 * float(failing) or out.phase_errors_max == 0
    exact = length_in_many_digits(premises, out.phase_errors_max) + 1
    assert out.n_secret <= max(0, exact)


def test_every_intermediate_adds_up_to_the_length():
    premises = sized(100_000, 10_000, 200, leak_ec=16_000)
    b = bounds(premises)

    assert b.phi == b.phase_errors_max / premises.n_key
    assert b.secrecy_cost == pytest.approx(2 * log2(1 / (2 * b.eps_hash)), rel=1e-15)
    assert b.correctness_cost == pytest.approx(log2(2 / premises.eps_cor), rel=1e-15)
    assert b.length == b.entropy - premises.leak_ec - b.secrecy_cost - b.correctness_cost - 1
    assert b.n_secret == floor(b.length)


premises_with_key = st.builds(
    lambda n, k, rate, leak, sec, cor: sized(
        n, k, int(k * rate), leak_ec=int(n * leak), eps_sec=10.0**-sec, eps_cor=10.0**-cor
    ),
    st.integers(1_000, 10**7),
    st.integers(500, 10**6),
    st.floats(0, 0.12),
    st.floats(0, 0.4),
    st.integers(3, 15),
    st.integers(3, 20),
)


@settings(max_examples=100, deadline=None)
@given(premises_with_key, st.integers(1, 1000))
def test_the_length_never_grows_with_errors_leak_or_security(p, more):
    length = bounds(p).length

    assert bounds(replace(p, test_errors_max=p.test_errors_max + more)).length <= length
    assert bounds(replace(p, leak_ec=p.leak_ec + more)).length == pytest.approx(length - more)
    assert bounds(replace(p, eps_sec=p.eps_sec / 10)).length <= length
    assert bounds(replace(p, eps_cor=p.eps_cor / 10)).length <= length


@settings(max_examples=100, deadline=None)
@given(premises_with_key, st.integers(1, 10_000))
def test_a_larger_test_with_no_more_errors_never_costs_key(p, more):
    assert bounds(replace(p, n_test=p.n_test + more)).length >= bounds(p).length


@settings(max_examples=100, deadline=None)
@given(premises_with_key)
def test_one_more_key_bit_costs_no_more_than_the_one_error_that_may_come_with_it(p):
    b, larger = bounds(p), bounds(replace(p, n_key=p.n_key + 1))

    assert larger.phase_errors_max - b.phase_errors_max in (0, 1)
    if b.phi == 0.5 or larger.phi == 0.5:
        return
    if larger.phase_errors_max == b.phase_errors_max:
        assert larger.length >= b.length
    else:  # e more errors: n h(e/n) has the slope log2((n - e) / e)
        slope = log2(p.n_key / max(b.phase_errors_max, 1)) + 2
        assert larger.length >= b.length - slope


@settings(max_examples=100, deadline=None)
@given(premises_with_key)
def test_the_length_is_never_above_the_key_less_the_leak(p):
    b = bounds(p)

    assert 0 <= b.n_secret <= max(0, p.n_key - p.leak_ec)
    assert b.phi >= p.test_errors_max / p.n_test or b.phi == 0.5


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 10**6))
def test_there_is_no_key_where_half_of_the_test_may_be_wrong(n, k, more):
    assert bounds(sized(n, k, (k + 1) // 2 + more)).n_secret == 0


@pytest.mark.parametrize(
    ("n", "k", "errors"), [(0, 100, 0), (100, 0, 0), (0, 0, 0), (10**6, 10, 10), (10**6, 10, 11)]
)
def test_nothing_tested_gives_nothing(n, k, errors):
    b = bounds(sized(n, k, errors))

    assert (b.phi, b.n_secret) == (0.5, 0)


@pytest.mark.parametrize("qber", [0.01, 0.03, 0.08])
def test_a_large_block_comes_near_the_asymptotic_rate(qber):
    n, k = 10**9, 10**8
    h = -qber * log2(qber) - (1 - qber) * log2(1 - qber)

    rate = bounds(sized(n, k, int(k * qber))).n_secret / n

    assert 0.99 * (1 - h) < rate < 1 - h


def test_at_no_error_the_phase_errors_are_not_zero():
    """P[a sample of half the pairs misses all of e errors] is about 2^-e, here (31/64 eps)^2."""
    premises = sized(1_000_000, 1_000_000, 0, eps_sec=2.0**-30)

    assert bounds(premises).phase_errors_max == 62  # 2 (30 + log2(64 / 31)) = 62.09


def test_a_healthy_test_is_accepted_nearly_always():
    """Exactly: the binomial tail above what is accepted is at most the abort rate."""
    n, qber, abort_rate = 2_000, Fraction(3, 100), Fraction(1, 100)

    accepted = errors_accepted(n, float(qber), float(abort_rate))

    within = sum(comb(n, j) * qber**j * (1 - qber) ** (n - j) for j in range(accepted + 1))
    assert 1 - within <= abort_rate / 16
    assert n * qber < accepted < 2 * n * qber
    assert errors_accepted(10, 0.9, 1e-6) == 10
