"""Exact tails of the binomial distribution, and the means that they allow (Clopper-Pearson).

A count is a sum of up to n independent trials of unequal probabilities. Where its tail begins one
or more beyond the mean, it has at most the probability of the binomial tail with the same mean and
as many trials (Hoeffding, Ann. Math. Stat. 27, 713 (1956)), and that grows with the number of
trials (Anderson and Samuels, Proc. 5th Berkeley Symp. 1, 1 (1967)).
"""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import expm1, sqrt

from qkd_certify.intervals import (
    Interval,
    between,
    exactly,
    high,
    log,
    log_choose,
    low,
)

UNIT = 1 << 128  # of the sums
NEGLIGIBLE = 1 << 24
BITS = 96  # of a probability
CONVERGED = 2.0**-60
STEP = Fraction(1, 1 << 62)  # relative: how far the ends lie from the root
STEP_MAX = 20.0  # downwards, in ln p
ROUNDS_MAX = 200


def least_mean(n: int, count: int, eps: Fraction) -> Interval:
    """The largest mean with which ``count`` or more of ``n`` have at most the probability eps.

    So that the mean is larger, but for eps, where so many are seen. 0 where less than two are, as
    the tail is to begin one or more beyond the mean. 0 <= count <= n, 0 < eps < 1/20.
    """
    return exactly(0) if count <= 1 else _binomial_mean(n, count, eps)


def greatest_mean(n: int, count: int, eps: Fraction) -> Interval:
    """The smallest mean with which ``count`` or fewer of ``n`` have at most the probability eps.

    The trials that fail are n - count or more.
    """
    return n - least_mean(n, n - count, eps)


def others_at_most(
    sizes: tuple[int, int], p: Interval, eps: Fraction, slack: Fraction
) -> tuple[int, int]:
    """The most events of a kind that nobody counts; least and most that it can be.

    ``sizes``: events of the counted kind, and what bounds the others anyway. Each event is
    independently of the counted kind with probability ``p``. The result is the least u with which
    u + counted + 1 events hold at most ``counted`` of the counted kind with no more than the
    probability eps: the others then exceed u with no more, however many events there are (the tail
    of the negative binomial distribution). What it can be: where the logarithm of that probability
    is within ``slack``, or the rounding, of that of eps.
    """
    log_eps = log(exactly(eps)) + between(-slack, slack)
    return (
        _least_enough(sizes, high(p), high(log_eps), low),
        _least_enough(sizes, low(p), low(log_eps), high),
    )


@lru_cache(maxsize=64)  # the same tails serve the length and the told bounds
def _binomial_mean(n: int, count: int, eps: Fraction) -> Interval:
    """Newton's iteration for ln P over ln p, which is concave: it nears the root from below.

    Whatever it finds, the ends are right: each is moved until the tail there lies beyond eps.
    """
    target = log(exactly(eps))
    p = _first_guess(n, count, -float(low(target)))
    for _ in range(ROUNDS_MAX):
        log_tail, total = _log_tail(n, count, p)
        step = float(low(target - log_tail)) * float(low(total)) / count
        if abs(step) < CONVERGED:
            break
        p = _rounded(p * (1 + Fraction(expm1(max(-STEP_MAX, step)))))
    else:
        raise ArithmeticError(f"no mean found for {count} of {n}")
    below, above = p * (1 - STEP), min(p * (1 + STEP), Fraction(1))
    while high(_log_tail(n, count, below)[0] - target) > 0:
        below *= 1 - STEP
    while above < 1 and low(_log_tail(n, count, above)[0] - target) < 0:
        above = min(above * (1 + STEP), Fraction(1))
    return between(n * below, n * above)


def _least_enough(
    sizes: tuple[int, int], p: Fraction, log_eps: Fraction, end: Callable[[Interval], Fraction]
) -> int:
    """The least u up to sizes[1] with which that ``end`` of ln P is not above ``log_eps``."""
    counted, last = sizes
    first = 0
    while first < last:
        middle = (first + last) // 2
        n = middle + counted + 1
        if n * p > counted and end(_log_tail(n, n - counted, 1 - p)[0]) <= log_eps:
            last = middle
        else:
            first = middle + 1
    return first


def _first_guess(n: int, count: int, nats: float) -> Fraction:
    """From the normal distribution; half the count where that says nothing."""
    z = sqrt(2 * nats)
    mean = max(count / 2, count - z * sqrt(count * (1 - count / (n + 1)) + 1))
    return _rounded(Fraction(min(mean, n * (1 - 2.0**-30))) / n)


def _log_tail(n: int, count: int, p: Fraction) -> tuple[Interval, Interval]:
    """ln P(X >= count), and P(X >= count) / P(X = count), for 0 < p < 1 and count >= n p."""
    ratio = _over_first(n, count, p)
    log_first = log_choose(n, count) + count * log(exactly(p))
    if count < n:
        log_first += (n - count) * log(exactly(1 - p))
    return log_first + log(ratio), ratio


def _over_first(n: int, count: int, p: Fraction) -> Interval:
    """The sum of the terms from ``count`` on over the first, summed in integers.

    Terms fall, and each by more than the one before: what is left out is at most a geometric
    series. Each division loses less than one unit, and that shrinks with the terms after it.
    """
    successes, failures = p.numerator, p.denominator - p.numerator
    term = total = UNIT
    left_out = 0
    for j in range(count, n):
        over, under = (n - j) * successes, (j + 1) * failures  # of the next term to this one
        if term < NEGLIGIBLE and over < under:
            left_out = (term + j - count) * over // (under - over) + 1
            break
        term = term * over // under
        total += term
    steps = j - count + 1 if count < n else 0
    lost = steps * (steps + 1) // 2
    return between(Fraction(total, UNIT), Fraction(total + lost + left_out, UNIT))


def _rounded(p: Fraction) -> Fraction:
    """To `BITS` significant bits."""
    shift = BITS + p.denominator.bit_length() - p.numerator.bit_length()
    return Fraction((p.numerator << shift) // p.denominator, 1 << shift)
