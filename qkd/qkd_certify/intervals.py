"""Intervals that hold the true value, whatever is rounded: mpmath's, and what they lack.

All that stands between a count and a key length is evaluated with these. Ends are binary numbers,
and leave as exact fractions.
"""

from fractions import Fraction
from functools import lru_cache
from math import ceil, factorial, floor
from typing import Any

from mpmath.ctx_iv import MPIntervalContext  # type: ignore[import-untyped]

Interval = Any  # mpmath's ivmpf
Exact = int | float | Fraction

BITS = 192
GUARD = Fraction(1, 1 << (BITS - 10))  # relative; mpmath's functions are good to the last bits
FACTORIAL_EXACT = 256  # below, ln n! is that of the integer
STIRLING_FRACTIONS = (  # B_2m / (2m (2m - 1)): DLMF 5.11.1; the last one bounds the error
    (1, 12),
    (-1, 360),
    (1, 1260),
    (-1, 1680),
    (1, 1188),
    (-691, 360360),
    (1, 156),
    (-3617, 122400),
    (43867, 244188),
)

CONTEXT = MPIntervalContext()
CONTEXT.prec = BITS
STIRLING = tuple(CONTEXT.mpf(over) / under for over, under in STIRLING_FRACTIONS)


def exactly(value: Exact) -> Interval:
    """An interval around ``value``; of no width for integers and doubles."""
    if isinstance(value, Fraction):
        return CONTEXT.mpf(value.numerator) / CONTEXT.mpf(value.denominator)
    return CONTEXT.mpf(value)


def between(low: Exact, high: Exact) -> Interval:
    """Holds all from ``low`` to ``high``."""
    return CONTEXT.mpf([exactly(low).a, exactly(high).b])


def low(x: Interval) -> Fraction:
    return _fraction(x._mpi_[0])


def high(x: Interval) -> Fraction:
    return _fraction(x._mpi_[1])


def exp(x: Interval) -> Interval:
    return CONTEXT.exp(x) * _around_one()


def log(x: Interval) -> Interval:
    """Of a positive interval."""
    value = CONTEXT.log(x)
    return value + between(-GUARD, GUARD) * (1 + abs(value))


def log2(x: Interval) -> Interval:
    return log(x) / log(exactly(2))


def sqrt(x: Interval) -> Interval:
    return CONTEXT.sqrt(x) * _around_one()


def smaller(x: Interval, y: Interval) -> Interval:
    return between(min(low(x), low(y)), min(high(x), high(y)))


def larger(x: Interval, y: Interval) -> Interval:
    return between(max(low(x), low(y)), max(high(x), high(y)))


def floor_low(x: Interval) -> int:
    return floor(low(x))


def floor_high(x: Interval) -> int:
    return floor(high(x))


def ceil_low(x: Interval) -> int:
    return ceil(low(x))


def ceil_high(x: Interval) -> int:
    return ceil(high(x))


def binary_entropy(p: Interval) -> Interval:
    """h(p) in bits, 1 from one half on; it grows up to there, so that the ends are enough."""
    return between(low(_entropy(low(p))), high(_entropy(high(p))))


@lru_cache(maxsize=4096)
def log_factorial(n: int) -> Interval:
    """ln n!, by Stirling's series, whose error is less than its first omitted term (DLMF 5.11)."""
    if n < FACTORIAL_EXACT:
        return log(exactly(factorial(n)))
    x, inverse = exactly(n), 1 / exactly(n)
    value = (x + exactly(Fraction(1, 2))) * log(x) - x + log(2 * CONTEXT.pi * _around_one()) / 2
    series, square = exactly(0), inverse * inverse
    for coefficient in reversed(STIRLING[:-1]):
        series = series * square + coefficient
    error = (abs(STIRLING[-1]) * inverse ** (2 * len(STIRLING) - 1)).b
    return value + series * inverse + CONTEXT.mpf([-error, error])


def log_choose(n: int, k: int) -> Interval:
    return log_factorial(n) - log_factorial(k) - log_factorial(n - k)


def _entropy(p: Fraction) -> Interval:
    if p <= 0:
        return exactly(0)
    if p >= Fraction(1, 2):
        return exactly(1)
    x, y = exactly(p), exactly(1 - p)
    return -x * log2(x) - y * log2(y)


def _around_one() -> Interval:
    return between(1 - GUARD, 1 + GUARD)


def _fraction(end: tuple[int, int, int, int]) -> Fraction:
    """Exact. Raises ValueError for what is not finite."""
    sign, mantissa, exponent, _ = end
    if not mantissa and exponent:
        raise ValueError("an interval without end")
    value = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -value if sign else value
