"""The decoder of quasi-cyclic LDPC codes: layered sum-product, in integers.

A code has ``rows`` rows of circulants of ``lanes`` bits: check k of row r is the sum of the bits
(k + shift) mod lanes of the columns that the row's *edges* name. What is believed of a bit is a
log-likelihood ratio in steps of 1/8, positive for a zero. Each row in turn takes from the beliefs
what it said of them last, says it anew, and adds that: Mansour and Shanbhag, "High-throughput LDPC
decoders", IEEE Trans. VLSI 11, 2003. What a check says of one bit is phi(sum of phi(beliefs of the
others)), phi(x) = -ln tanh(x/2): Gallager, "Low-Density Parity-Check Codes", 1963.

Zeros and ones are treated alike: turn any bits over, in the beliefs and in the syndrome, and each
sweep gives the same beliefs and messages but for the signs of those bits, and takes as many sweeps
to the same end. So what the decoder tells of its work follows from where the errors are, and not
from the key. A belief of 0 is neither: a check with one is not satisfied, and it says nothing to
its other bits, whose messages have magnitude 0 then.

Beliefs stand column after column in int16[columns * stride(lanes)]. Each column has a margin on
both sides with a copy of its other end, so that 32 of them can be read from any place on.
"""

from collections.abc import Callable
from functools import cache, partial
from math import exp, log, tanh
from typing import Any

import numpy as np
from numba import njit, types

from qkd_core.kernels.carryless import marker, marker_type
from qkd_core.kernels.cpu import Path
from qkd_core.kernels.ldpc_vectors import (
    LANES,
    TABLE,
    add,
    add_unsigned,
    clamped,
    count_negative,
    either,
    load,
    load_bytes,
    path,
    prefetch,
    runnable,
    store,
    store_bytes,
    subtract,
    table_of_logarithms,
    table_of_magnitudes,
    with_sign,
    with_zeros_of,
    xor,
    zeros,
)
from qkd_core.kernels.signatures import INT, INTS_IN, NOTHING, WORDS_IN, WORDS_OUT

SHORTS_IN = types.Array(types.int16, 1, "C", readonly=True)
SHORTS_OUT = types.int16[::1]
BYTES_OUT = types.int8[::1]
U = np.uint64
BELIEF_STEP = 8  # to 1 of a log-likelihood ratio
PHI_STEP = 8192  # to 1 of phi
CERTAIN = 4000  # no belief is stronger
SURE = 13 * BELIEF_STEP  # phi is 0 from here on: a floor would keep runs of wrong bits standing
AHEAD = 3 * LANES  # beliefs that will be wanted soon: no CPU guesses as many streams as a row reads
FRONT, BACK = LANES, 2 * LANES  # margins of a column
MOST_PHI, MOST_MESSAGE = 32000, 127
EIGHTHS = 8  # to an octave: what `table_of_logarithms` tells apart


def phi(x: float) -> float:
    """-ln tanh(x / 2), its own inverse."""
    return -log(tanh(x / 2)) if x < 30 else 2 * exp(-x)  # noqa: PLR2004 (no difference in doubles)


def phi_table() -> list[int]:
    """phi of a belief, by its magnitude."""
    values = [max(1, round(PHI_STEP * phi(i / BELIEF_STEP))) for i in range(1, SURE)]
    return [MOST_PHI, *(min(MOST_PHI, value) for value in values), *[0] * (TABLE - SURE)]


def message_table() -> list[int]:
    """The magnitude of a message by the logarithm of a sum of phi, see `table_of_logarithms`."""
    out = [MOST_MESSAGE]
    for k in range(TABLE - 1):
        octave, eighth = divmod(k, EIGHTHS)
        low, high = (2**octave * (1 + part / EIGHTHS) for part in (eighth, eighth + 1))
        x = max(low, (low + high - 1) / 2)  # the mean of the integers there
        out.append(min(MOST_MESSAGE, round(BELIEF_STEP * phi(x / PHI_STEP))))
    return out


phi_of = table_of_magnitudes(phi_table())
message_of = table_of_logarithms(message_table())
within_certain = clamped(CERTAIN)


def stride(lanes: int) -> int:
    """Beliefs from the start of one column to that of the next."""
    return FRONT + lanes + BACK


@njit(NOTHING(SHORTS_OUT, INT, INTS_IN, WORDS_IN, INT), cache=True, nogil=True)
def believe(beliefs, lanes, places, words, strength):
    """Believe the bits of ``words``, 64 at each of ``places``, with ``strength`` >= 0.

    places  int64[n], words counted through the columns
    words   uint64[n]
    """
    in_column = lanes >> 6
    step = FRONT + lanes + BACK
    for i in range(places.size):
        column = places[i] // in_column
        first = (places[i] - column * in_column) << 6
        base = column * step + FRONT
        word = words[i]
        for bit in range(64):
            at = first + bit
            belief = strength - 2 * strength * np.int64((word >> U(bit)) & U(1))
            beliefs[base + at] = belief
            if at < BACK:
                beliefs[base + at + lanes] = belief
            if at >= lanes - FRONT:
                beliefs[base + at - lanes] = belief


@njit(NOTHING(SHORTS_IN, INT, WORDS_OUT), cache=True, nogil=True)
def decided(beliefs, lanes, words):
    """The likelier bits of all columns, uint64[columns * lanes / 64]."""
    in_column = lanes >> 6
    step = FRONT + lanes + BACK
    for i in range(words.size):
        column = i // in_column
        base = column * step + FRONT + ((i - column * in_column) << 6)
        word = U(0)
        for bit in range(64):
            word |= U(beliefs[base + bit] < 0) << U(bit)
        words[i] = word


@njit(NOTHING(WORDS_IN, SHORTS_OUT), cache=True, nogil=True)
def signs_of(words, signs):
    """-32768 for each set bit of ``words`` and 0 for the others, int16[64 * n]."""
    for i in range(words.size):
        word = words[i]
        for bit in range(64):
            signs[64 * i + bit] = -32768 * np.int64((word >> U(bit)) & U(1))


@njit(INT(SHORTS_IN, SHORTS_IN, INT, INTS_IN, INTS_IN, INTS_IN), cache=True, nogil=True)
def unsatisfied(beliefs, signs, lanes, ends, columns, shifts):  # noqa: PLR0913, PLR0917 (kernel)
    """The checks that the likelier bits do not satisfy, or with a bit of which neither is likelier.

    Arguments as for `decode`.
    """
    step = FRONT + lanes + BACK
    bad = 0
    for row in range(ends.size - 1):
        for k in range(0, lanes, LANES):
            parity = load(signs, row * lanes + k)
            undecided = zeros()
            for edge in range(ends[row], ends[row + 1]):
                at = k + shifts[edge]
                if at >= lanes:
                    at -= lanes
                belief = load(beliefs, columns[edge] * step + FRONT + at)
                parity = xor(parity, belief)
                undecided = with_zeros_of(undecided, belief)
            bad += count_negative(either(parity, undecided))
    return bad


def _sweep(words, beliefs, messages, signs, scratch, lanes, ends, columns, shifts):  # noqa: PLR0913, PLR0917 (kernel)
    """Every row once; the unsatisfied checks as each row met them."""
    step = FRONT + lanes + BACK
    half = scratch.size >> 1
    bad = 0
    for row in range(ends.size - 1):
        first, last = ends[row], ends[row + 1]
        for k in range(0, lanes, LANES):
            sign = load(signs, row * lanes + k)
            parity = sign
            undecided = zeros()
            total = zeros()
            said = first * lanes + k * (last - first)
            for edge in range(first, last):
                at = k + shifts[edge]
                if at >= lanes:
                    at -= lanes
                base = columns[edge] * step + FRONT
                belief = load(beliefs, base + at)
                prefetch(beliefs, base + at + AHEAD)
                other = subtract(belief, load_bytes(messages, said + (edge - first) * LANES))
                size = phi_of(words, other)
                store(scratch, (edge - first) * LANES, other)
                store(scratch, half + (edge - first) * LANES, size)
                total = add_unsigned(total, size)
                parity = xor(parity, belief)
                undecided = with_zeros_of(undecided, belief)
                sign = xor(sign, other)
            bad += count_negative(either(parity, undecided))
            for edge in range(first, last):
                other = load(scratch, (edge - first) * LANES)
                size = load(scratch, half + (edge - first) * LANES)
                message = with_sign(xor(sign, other), message_of(words, subtract(total, size)))
                store_bytes(messages, said + (edge - first) * LANES, message)
                belief = within_certain(add(other, message))
                at = k + shifts[edge]
                if at >= lanes:
                    at -= lanes
                base = columns[edge] * step + FRONT
                store(beliefs, base + at, belief)
                if at > lanes - LANES:
                    store(beliefs, base + at - lanes, belief)
                elif at < LANES:
                    store(beliefs, base + at + lanes, belief)
    return bad


SWEEP = njit(_sweep, nogil=True)


def _decode(words, beliefs, messages, signs, scratch, lanes, ends, columns, shifts, most, patience):  # noqa: PLR0913, PLR0917 (kernel)
    """Sweep over the rows until all checks are satisfied, or hope is lost.

    beliefs   int16[columns * stride(lanes)], changed in place
    messages  int8[edges * lanes], what the rows said last, in the order of use; zeros at first
    signs     int16[rows * lanes], the syndrome as `signs_of` gives it
    scratch   int16[2 * LANES * edges of the longest row]
    lanes     a multiple of 64
    ends      int64[rows + 1], where each row's edges start
    columns, shifts  int64[edges], 0 <= shift < lanes; no column twice in a row
    most      sweeps
    patience  sweeps without fewer unsatisfied checks than ever before after which it gives up

    Returns the sweeps done, negative if checks are left unsatisfied.
    """
    fewest = np.int64(1) << 60
    waited = 0
    for done in range(1, most + 1):
        bad = SWEEP(words, beliefs, messages, signs, scratch, lanes, ends, columns, shifts)
        if bad == 0:  # each row was satisfied when its turn came; a later one may have undone it
            bad = unsatisfied(beliefs, signs, lanes, ends, columns, shifts)
        if bad == 0:
            return done
        if bad < fewest - (fewest >> 9):
            fewest = bad
            waited = 0
        else:
            waited += 1
            if waited >= patience:
                return -done
    return -most


@cache
def family(way: Path) -> Callable[..., int]:
    """`decode`, compiled for one of `runnable` paths. Raises ValueError for another."""
    if way not in runnable():
        raise ValueError(f"this CPU does not run {way.name}")
    signature = INT(
        marker_type(way), SHORTS_OUT, BYTES_OUT, SHORTS_IN, SHORTS_OUT, INT,
        INTS_IN, INTS_IN, INTS_IN, INT, INT,
    )  # fmt: skip
    compiled: Any = njit(signature, cache=True, nogil=True)(_decode)
    return partial(compiled, marker(way))


decode = family(path())
