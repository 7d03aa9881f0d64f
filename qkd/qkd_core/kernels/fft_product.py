"""Products of long polynomials over GF(2), by values at the points of a Cantor subspace.

A polynomial in x of 32 n bits is one in y = x^32 of n coefficients below degree 32. Their products
have degree 62 at most and are exact in GF(2^64). With 2^L points the product is known modulo
s_L(y) = sum of y^(2^k) over those k <= L whose binary digits are all digits of L; where only a
middle part of the product is wanted, as many points as it needs may be fewer than its length.

Source: `additive_fft`, and D. J. Bernstein and T. Chou, "Faster binary-field multiplication and
faster binary-field MACs", SAC 2014, for the use of a larger field with short coefficients.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit, types

from qkd_core.kernels import additive_fft, cpu
from qkd_core.kernels.carryless import (
    LANES,
    load,
    marker,
    marker_type,
    splat,
    store,
    times_constant,
    widened,
    xor,
)
from qkd_core.kernels.novel_basis import CHUNKS_OUT, add, from_novel, to_novel
from qkd_core.kernels.signatures import INT, NOTHING, WORDS_IN, WORDS_OUT

U = np.uint64
MIN_LEVELS = 6  # halves of it still are rows of sixteen
CHUNKS_IN = types.Array(types.uint32, 1, "C", readonly=True)


@dataclass(frozen=True, slots=True)
class Points:
    """2^levels points, and half as many beyond them if ``more``."""

    levels: int
    more: bool

    @property
    def n(self) -> int:
        return (3 if self.more else 2) << (self.levels - 1)


@njit([NOTHING(CHUNKS_OUT, INT, INT), NOTHING(WORDS_OUT, INT, INT)], cache=True, nogil=True)
def reduce(values, levels, n):
    """Add the ``n`` coefficients from 2^levels on to where s_levels takes them, below.

    Done twice it is undone.
    """
    for k in range(levels):
        if k & levels == k:
            add(values, 1 << k, 1 << levels, n)


@njit(NOTHING(CHUNKS_IN, WORDS_OUT), cache=True, nogil=True)
def widen(chunks, values):
    for k in range(0, values.size, LANES):
        store(values, k, widened(chunks, k))


def reach_signature(path):
    return NOTHING(marker_type(path), WORDS_OUT, INT, types.uint64)


@njit([reach_signature(cpu.path())], cache=True, nogil=True)
def reach_beyond(words, values, levels, twiddle):
    """Between f_1, from 2^levels on, and what the points beyond make of the whole polynomial.

    On them s_levels is 1, and their first layer turns the halves u, v of f_0 + f_1 into u + t v;
    f_1 has no upper half. Done twice it is undone.
    """
    size, half = 1 << levels, 1 << (levels - 1)
    factor, over = splat(twiddle), splat(additive_fft.quotient(twiddle))
    for k in range(0, half, LANES):
        below = times_constant(words, load(values, half + k), factor, over)
        below = xor(below, load(values, k))
        store(values, size + k, xor(below, load(values, size + k)))


@njit(NOTHING(WORDS_IN, WORDS_OUT), cache=True, nogil=True)
def overlapped(values, out):
    """Add up products that stand 32 bits apart: uint64[2 n] to uint64[n]."""
    before = U(0)
    for k in range(out.size):
        low, high = values[2 * k], values[2 * k + 1]
        out[k] = low ^ (before >> U(32)) ^ (high << U(32))
        before = high ^ (low >> U(32))


PER_PATH = (
    (additive_fft.forward, additive_fft.transform_signature),
    (additive_fft.inverse, additive_fft.transform_signature),
    (additive_fft.multiply_values, additive_fft.product_signature),
    (reach_beyond, reach_signature),
)


@lru_cache(maxsize=2)
def table_for(points):
    """The twiddles for ``points``, shared by all products of a size."""
    table = additive_fft.twiddles(1 << (points.levels if points.more else points.levels - 1))
    table.flags.writeable = False
    return table


def product(path, a, b, points):
    """The product of ``a`` and ``b``, uint32[m] each, modulo the polynomial of the points.

    Returns uint64[points.n / 2]. Neither factor has more coefficients than there are points, and
    with ``points.more`` the product has not, either (the caller checks).
    It takes 20 bytes a point for a while, and wipes them. Time O(n log n).
    """
    words, table = marker(path), table_for(points)
    # in one piece: malloc keeps the pages of one for the next block, and of three it does not
    room = np.empty(points.n * 5 // 2, np.uint64)
    values, others = room[: points.n], room[points.n : 2 * points.n]
    coefficients = room[2 * points.n :].view(np.uint32)
    for factor, into in ((a, values), (b, others)):
        coefficients[: factor.size] = factor
        coefficients[factor.size :] = 0
        _evaluate(words, coefficients, into, points, table)
    additive_fft.multiply_values(words, values, others)
    _interpolate(words, values, points, table)
    out = np.empty(points.n // 2, np.uint64)
    overlapped(values, out)
    room.fill(0)  # one of the factors may be key
    return out


def _evaluate(words, coefficients, values, points, table):
    levels, size = points.levels, 1 << points.levels
    if points.more:
        reduce(coefficients, levels, size >> 1)
        to_novel(coefficients, size, levels - 1)
    to_novel(coefficients, 0, levels)
    widen(coefficients, values)
    if points.more:
        reach_beyond(words, values, levels, table[1])
        additive_fft.forward(words, values[size:], levels - 1, 2, table)
    additive_fft.forward(words, values[:size], levels, 0, table)


def _interpolate(words, values, points, table):
    levels, size = points.levels, 1 << points.levels
    additive_fft.inverse(words, values[:size], levels, 0, table)
    if points.more:
        additive_fft.inverse(words, values[size:], levels - 1, 2, table)
        reach_beyond(words, values, levels, table[1])
        from_novel(values, size, levels - 1)
    from_novel(values, 0, levels)
    if points.more:
        reduce(values, levels, size >> 1)  # which undoes itself
