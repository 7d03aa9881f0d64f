"""The verifier's tails against exact fractions, and against the engine's own."""

from bisect import bisect_left
from fractions import Fraction
from math import comb, factorial

import mpmath
import pytest

from qkd_certify.binomial import greatest_mean, least_mean, others_at_most
from qkd_certify.intervals import (
    binary_entropy,
    exactly,
    exp,
    high,
    log,
    log_choose,
    log_factorial,
    low,
)
from qkd_certify.sampling import errors_outside
from qkd_core.proofs.clopper_pearson import mean_at_least, mean_at_most
from qkd_core.proofs.negative_binomial import others_at_most as engines_others_at_most
from qkd_core.proofs.sampling import errors_outside_max

EPS = Fraction(1e-9) / 21
EXACT = Fraction(0)


def at_least(n, count, mean):
    """P(X >= count) in fractions."""
    p = mean / n
    return sum(comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(count, n + 1))


@pytest.mark.parametrize("eps", [Fraction(1, 25), Fraction(1, 10**6), EPS])
@pytest.mark.parametrize("n", [2, 7, 18])
def test_the_least_mean_is_where_the_exact_tail_is_eps(n, eps):
    for count in range(2, n + 1):
        mean = least_mean(n, count, eps)

        assert 0 < low(mean) <= high(mean) < count
        assert high(mean) - low(mean) < low(mean) / 2**50
        assert at_least(n, count, low(mean)) <= eps <= at_least(n, count, high(mean))


@pytest.mark.parametrize("n", [2, 18])
def test_the_greatest_mean_is_where_the_exact_tail_below_is_eps(n):
    for count in range(n - 1):
        mean = greatest_mean(n, count, EPS)

        assert count < low(mean) <= high(mean) < n
        below = [1 - at_least(n, count + 1, end(mean)) for end in (low, high)]
        assert below[1] <= EPS <= below[0]


def test_nothing_is_said_where_the_tail_begins_less_than_one_beyond_the_mean():
    assert [low(least_mean(9, count, EPS)) for count in (0, 1)] == [0, 0]
    assert [high(greatest_mean(9, count, EPS)) for count in (8, 9)] == [9, 9]


@pytest.mark.parametrize(
    ("n", "count"),
    [(300_000, 2), (300_000, 450), (300_000, 30_000), (300_000, 260_000), (10**8, 9 * 10**6)],
)
def test_the_engines_limits_of_means_are_outward_and_close(n, count):
    least, greatest = least_mean(n, count, EPS), greatest_mean(n, count, EPS)

    assert mean_at_least(count, n, float(EPS)) <= high(least)
    assert mean_at_most(count, n, float(EPS)) >= low(greatest)
    assert mean_at_least(count, n, float(EPS)) == pytest.approx(float(low(least)), rel=1e-9)
    assert mean_at_most(count, n, float(EPS)) == pytest.approx(float(high(greatest)), rel=1e-9)


def few(trials, most, p):
    """P(at most ``most`` of the trials succeed) in fractions; it falls with ``trials``."""
    return sum(comb(trials, j) * p**j * (1 - p) ** (trials - j) for j in range(most + 1))


@pytest.mark.parametrize("eps", [Fraction(1, 25), Fraction(3, 10**6), EPS])
@pytest.mark.parametrize("p", [Fraction(1, 50), Fraction(1, 3), Fraction(9, 10)])
def test_the_most_of_an_uncounted_kind_are_those_of_the_exact_tail(p, eps):
    for counted in (0, 1, 4):
        u = bisect_left(range(10**4), True, key=lambda u, m=counted: few(u + m + 1, m, p) <= eps)

        assert others_at_most((counted, 10**4), exactly(p), eps, EXACT) == (u, u)
        assert others_at_most((counted, u // 2), exactly(p), eps, EXACT) == (u // 2,) * 2


@pytest.mark.parametrize("counted", [0, 3, 176, 5_000])
@pytest.mark.parametrize("p", [Fraction(1, 29), Fraction(0.47)])
def test_the_engines_most_of_an_uncounted_kind_is_the_same(counted, p):
    theirs = engines_others_at_most(counted, p, float(EPS), 10**7)

    assert others_at_most((counted, 10**7), exactly(p), EPS, EXACT) == (theirs, theirs)


def at_most(seen, sampled, outside, errors):
    """P(at most so many of the errors are in the sample) in fractions."""
    ways = sum(
        comb(errors, j) * comb(sampled + outside - errors, sampled - j)
        for j in range(max(0, errors - outside), min(seen, sampled, errors) + 1)
    )
    return Fraction(ways, comb(sampled + outside, sampled))


@pytest.mark.parametrize("eps", [Fraction(3, 14), Fraction(1, 1000), EPS**2])
@pytest.mark.parametrize("sizes", [(20, 40), (60, 25), (50, 50), (1, 9)])
def test_errors_outside_a_sample_are_those_of_the_exact_distribution(sizes, eps):
    sampled, outside = sizes
    for seen in {0, 1, min(3, sampled), sampled // 2, sampled - 1, sampled}:
        likely = [
            errors
            for errors in range(seen, outside + seen + 1)
            if at_most(seen, sampled, outside, errors) > eps and errors <= sampled + outside
        ]

        assert errors_outside(seen, sizes, eps, EXACT) == (max(likely) - seen,) * 2


@pytest.mark.parametrize(
    ("seen", "sampled", "outside"), [(0, 900, 5000), (120, 12_000, 226_000), (20_601, 10**6, 10**7)]
)
def test_the_engines_sampling_is_the_same(seen, sampled, outside):
    log_eps = 2 * float(low(log(exactly(EPS))))

    least, most = errors_outside(seen, (sampled, outside), EPS**2, EXACT)

    assert least == most == errors_outside_max(seen, sampled, outside, log_eps)


def test_slack_lets_through_what_lies_within_it_and_no_more():
    """ln P falls by a few hundredths with each error, so that one of 0.1 is two or three."""
    exact, _ = errors_outside(120, (12_000, 226_000), EPS**2, EXACT)

    least, most = errors_outside(120, (12_000, 226_000), EPS**2, Fraction(1, 10))

    assert exact - 5 < least <= exact <= most < exact + 5
    assert least < most


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 1000, 10**6, 10**12])
def test_the_logarithm_of_a_factorial_holds_the_true_one(n):
    with mpmath.workprec(600):
        true = mpmath.log(factorial(n)) if n < 2000 else mpmath.loggamma(n + 1)
        held = log_factorial(n)
        ends = [mpmath.mpf(end(held).numerator) / end(held).denominator for end in (low, high)]

        assert ends[0] <= true <= ends[1]
        assert ends[1] - ends[0] < mpmath.mpf(2) ** -100


def test_functions_hold_the_true_value():
    """In four times the digits."""
    with mpmath.workprec(800):
        for x in (Fraction(1, 3), Fraction(0.0153), Fraction(17, 5), Fraction(10**9 + 1)):
            point = mpmath.mpf(x.numerator) / x.denominator
            for ours, theirs in ((log, mpmath.log), (exp, mpmath.exp)):
                if ours is exp and x > 100:
                    continue
                held = ours(exactly(x))
                ends = [mpmath.mpf(e(held).numerator) / e(held).denominator for e in (low, high)]
                assert ends[0] < theirs(point) < ends[1]


def test_the_binary_entropy_is_that_of_its_ends_and_one_from_one_half_on():
    assert low(binary_entropy(exactly(0))) == high(binary_entropy(exactly(0))) == 0
    assert low(binary_entropy(exactly(Fraction(1, 2)))) == 1
    assert low(binary_entropy(exactly(0.7))) == 1
    quarter = binary_entropy(exactly(Fraction(1, 4)))
    with mpmath.workprec(100):
        true = 2 - mpmath.log(3, 2) * 3 / 4
    assert float(low(quarter)) == pytest.approx(float(true), abs=1e-15)
    assert low(quarter) < high(quarter)


def test_choices_are_counted():
    held = exp(log_choose(60, 23))
    assert low(held) < comb(60, 23) < high(held)
