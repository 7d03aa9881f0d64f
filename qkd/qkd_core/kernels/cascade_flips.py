"""Flips of bits in Cascade, and what they change in every pass: see `cascade_corrector`."""

import numpy as np
from numba import njit, types

from qkd_core.kernels.cascade_permutation import OPTIONS, ROWS, SHORTS_IN, origin, place
from qkd_core.kernels.signatures import (
    BITS_OUT,
    INDICES_IN,
    INT,
    INTS_IN,
    INTS_OUT,
    NOTHING,
    WORDS_IN,
    WORDS_OUT,
)

U = np.uint64
INT32_OUT = types.int32[::1]
# what is kept of a frame, int64[8]: passes opened, the pass being swept, its intervals, errors
# found in this sweep, whether no bit was flipped since the last pass was opened, bits flipped
OPENED, SWEPT, INTERVALS, ERRORS, FRESH, FLIPPED = range(6)
STATE = 8
RECIPROCAL = 42  # block of a position z < 2^21: z * ceil(2^42 / block_bits) >> 42
HALF = 0xFFFFFFFF  # of a word, the lower
IS_ODD, IS_LISTED = 1, 2


@njit(INT(INT, INT, INT, SHORTS_IN, WORDS_OUT, INT, INT, WORDS_IN, WORDS_OUT), **OPTIONS)
def _flip_bits(slot, t, words, tables, bits, at, count, original, current):  # noqa: PLR0913, PLR0917 (kernel)
    """Turn positions in pass ``t`` into those in the key, and flip the bits there.

    Returns 0 if a bit was flipped before.
    """
    start, stop = U(at), U(at + count)
    if t:
        for i in range(start, stop):
            bits[i] = origin(tables, U((t - 1) * ROWS * words), U(words), bits[i])
    first = U(slot * words)
    for i in range(start, stop):
        w = first + (bits[i] >> U(6))
        mask = U(1) << (bits[i] & U(63))
        if (original[w] ^ current[w]) & mask:
            return 0
        current[w] ^= mask
    return 1


@njit(NOTHING(INT, INT, INT, SHORTS_IN, INDICES_IN, WORDS_OUT, INT, INT), **OPTIONS)
def _locate(p, t, words, tables, errors, bits, at, count):  # noqa: PLR0913, PLR0917 (kernel)
    """Put the places in pass ``p`` into the upper halves of ``bits``; ``errors`` has those in t."""
    start, stop = U(at), U(at + count)
    if p == t:
        for i in range(start, stop):
            bits[i] = (U(errors[i]) << U(32)) | (bits[i] & U(HALF))
    elif p == 0:
        for i in range(start, stop):
            bits[i] = (bits[i] << U(32)) | (bits[i] & U(HALF))
    else:
        for i in range(start, stop):
            bit = bits[i] & U(HALF)
            bits[i] = (place(tables, U((p - 1) * ROWS * words), U(words), bit) << U(32)) | bit


@njit(
    INT(INT, INT, INT, INT, INT, WORDS_IN, INT, INT, WORDS_OUT, BITS_OUT, INT32_OUT, INT),
    **OPTIONS,
)
def _toggle(  # noqa: PLR0913, PLR0917 (kernel)
    base, words, blocks, block_bits, reciprocal, bits, at, count, apart, odd, listed, listed_at
):
    """Note the flips in one pass: parities behind them, odd blocks, and the list of these.

    Returns where the list ends.
    """
    one = U(1)
    size, end = U(block_bits), U(64 * words)
    to = U(listed_at)
    for i in range(U(at), U(at + count)):
        z = bits[i] >> U(32)
        j = (z * U(reciprocal)) >> U(RECIPROCAL)
        last = min(end, (j + one) * size) - one  # its boundary stays as it is
        head = U(base) + (z >> U(6))
        tail = U(base) + (last >> U(6))
        # a word is flipped twice where head and tail are one: what is left is from z to last
        apart[head] ^= ~U(0) << (z & U(63))
        while head < tail:
            head += one
            apart[head] = ~apart[head]
        apart[tail] ^= ~U(0) << (last & U(63))
        status = U(odd[U(blocks) + j]) ^ U(IS_ODD)
        listed[to] = j
        new = U(status == U(IS_ODD))
        to += new
        odd[U(blocks) + j] = status | (new << one)
    return np.int64(to)


@njit(
    INT(INT, INT, INTS_OUT, INT, INT, INTS_IN, INTS_IN, INTS_IN, SHORTS_IN, INDICES_IN, WORDS_OUT,
        INT, WORDS_IN, WORDS_OUT, WORDS_OUT, BITS_OUT, INT32_OUT, INTS_OUT),
    **OPTIONS,
)  # fmt: skip
def flip(  # noqa: PLR0913, PLR0917 (kernel)
    slot, t, states, words, n_passes, block_bits, reciprocals, block_at, tables, errors, bits, at,
    original, current, apart, odd, listed, n_listed,
):  # fmt: skip
    """Flip the bits at the errors found in pass ``t``, and note it in every opened pass.

    errors  uint32[..], positions in the pass, from ``at`` on
    bits    uint64[..], scratch from ``at`` on
    The others are as in `cascade_corrector.advance`.

    Returns 0 if a bit was flipped before: true parities never ask for that; else 1.
    """
    s = slot * STATE
    count = states[s + ERRORS]
    for i in range(U(at), U(at + count)):
        bits[i] = errors[i]
    if not _flip_bits(slot, t, words, tables, bits, at, count, original, current):
        return 0
    for p in range(states[s + OPENED]):
        _locate(p, t, words, tables, errors, bits, at, count)
        row = slot * n_passes + p
        blocks = slot * block_at[n_passes] + block_at[p]
        end = _toggle(row * words, words, blocks, block_bits[p], reciprocals[p], bits, at, count,
                      apart, odd, listed, blocks + n_listed[row])  # fmt: skip
        n_listed[row] = end - blocks
    states[s + ERRORS] = 0
    states[s + FLIPPED] += count
    states[s + FRESH] = 0
    return 1
