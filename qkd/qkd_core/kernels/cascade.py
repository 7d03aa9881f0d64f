"""Array steps of Cascade: permutations, prefix parities and bisection on packed words.

A *boundary* m, 1 <= m <= n, stands between the bits m - 1 and m of a pass; what is known of it
is kept in bit m - 1 of a packed array. Boundary 0 needs no bit: every prefix there is empty.
"""

import numpy as np
from numba import njit

from qkd_core.kernels.signatures import (
    BITS_OUT,
    INDICES_IN,
    INDICES_OUT,
    INT,
    INTS_IN,
    INTS_OUT,
    NOTHING,
    WORD,
    WORDS_IN,
    WORDS_OUT,
)

U = np.uint64
STEP = U(0x9E3779B97F4A7C15)


@njit(INDICES_OUT(WORD, INT), cache=True, nogil=True)
def shuffled(seed, n):
    """A permutation of 0 .. n - 1 that ``seed`` determines, uint32[n]; n < 2^32.

    Source: Fisher-Yates, with random numbers from splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
    """
    out = np.arange(n).astype(np.uint32)
    state = seed
    for i in range(n - 1, 0, -1):
        state += STEP
        z = (state ^ (state >> U(30))) * U(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> U(27))) * U(0x94D049BB133111EB)
        z ^= z >> U(31)
        j = ((z >> U(32)) * U(i + 1)) >> U(32)
        out[i], out[j] = out[j], out[i]
    return out


@njit(INDICES_OUT(INDICES_IN), cache=True, nogil=True)
def inverted(permutation):
    """The inverse permutation, uint32[n]."""
    out = np.zeros(permutation.size, np.uint32)
    for i in range(permutation.size):
        out[permutation[i]] = i
    return out


@njit(WORDS_OUT(WORDS_IN, INDICES_IN), cache=True, nogil=True)
def gathered(words, source):
    """Packed bits whose bit i is bit ``source[i]`` of ``words``; source is uint32[n]."""
    out = np.zeros((source.size + 63) >> 6, np.uint64)
    for i in range(source.size):
        at = np.int64(source[i])
        out[i >> 6] |= ((words[at >> 6] >> U(at & 63)) & U(1)) << U(i & 63)
    return out


@njit(NOTHING(WORDS_OUT, INDICES_IN), cache=True, nogil=True)
def toggle_bits(words, positions):
    """Flip the bits of ``words`` at ``positions``, uint32[flips], in place."""
    for i in range(positions.size):
        at = np.int64(positions[i])
        words[at >> 6] ^= U(1) << U(at & 63)


@njit(WORDS_OUT(WORDS_IN), cache=True, nogil=True)
def prefix_parities(words):
    """Packed prefix parities: bit i of the result is the sum of the bits 0 .. i of ``words``."""
    out = np.zeros(words.size, np.uint64)
    carry = U(0)
    for w in range(words.size):
        x = words[w]
        for shift in (1, 2, 4, 8, 16, 32):
            x ^= x << U(shift)
        out[w] = x ^ carry
        carry = U(0) - (out[w] >> U(63))
    return out


@njit(WORD(WORDS_IN, INT), cache=True, nogil=True)
def _at(words, boundary):
    """The bit of a boundary, 0 at boundary 0."""
    if boundary == 0:
        return U(0)
    return (words[(boundary - 1) >> 6] >> U((boundary - 1) & 63)) & U(1)


@njit(NOTHING(WORDS_OUT, INT, INT), cache=True, nogil=True)
def _toggle(words, first, last):
    """Flip the bits first .. last of ``words``."""
    head, tail = first >> 6, last >> 6
    from_first = ~U(0) << U(first & 63)
    to_last = ~U(0) >> U(63 - (last & 63))
    if head == tail:
        words[head] ^= from_first & to_last
        return
    words[head] ^= from_first
    for w in range(head + 1, tail):
        words[w] = ~words[w]
    words[tail] ^= to_last


@njit(NOTHING(WORDS_OUT, INT, INT), cache=True, nogil=True)
def start_at_blocks(prefixes, n_bits, block_bits):
    """Turn prefix parities into those that start anew at each block, in place."""
    carry = U(0)
    for start in range(0, n_bits, block_bits):
        stop = min(n_bits, start + block_bits)
        total = _at(prefixes, stop)
        if carry:
            _toggle(prefixes, start, stop - 1)
        carry = total


@njit(WORDS_OUT(WORDS_IN, INTS_IN, INTS_IN), cache=True, nogil=True)
def interval_parities(prefixes, starts, stops):
    """Packed parities of the intervals [starts[i], stops[i]), from absolute prefix parities."""
    out = np.zeros((starts.size + 63) >> 6, np.uint64)
    for i in range(starts.size):
        parity = _at(prefixes, starts[i]) ^ _at(prefixes, stops[i])
        out[i >> 6] |= parity << U(i & 63)
    return out


@njit(NOTHING(INTS_OUT, INTS_OUT, INT, WORDS_IN, WORDS_IN, WORDS_IN), cache=True, nogil=True)
def narrow(starts, stops, block_bits, known, difference, flipped):  # noqa: PLR0913, PLR0917 (kernel)
    """Halve each odd interval [starts[i], stops[i]) as long as its middle is known, in place.

    known       packed, per boundary: was the parity up to it disclosed
    difference  packed, per boundary: sum of both sides' sifted bits from the block's start
    flipped     packed, per boundary: number of flips since, from the block's start, modulo 2
    """
    for i in range(starts.size):
        start, stop = starts[i], stops[i]
        block_start = start - start % block_bits
        while stop - start > 1:
            middle = (start + stop) >> 1
            if _at(known, middle) == U(0):
                break
            odd = _at(difference, middle) ^ _at(flipped, middle)
            if start > block_start:
                odd ^= _at(difference, start) ^ _at(flipped, start)
            if odd:
                stop = middle
            else:
                start = middle
        starts[i], stops[i] = start, stop


@njit(
    NOTHING(INTS_IN, INTS_IN, WORDS_IN, INT, WORDS_OUT, WORDS_OUT),
    cache=True,
    nogil=True,
)
def record(starts, stops, answers, block_bits, known, difference):  # noqa: PLR0913, PLR0917 (kernel)
    """Note the disclosed differences of the intervals [starts[i], stops[i]) at their ends.

    answers            packed, one bit an interval
    known, difference  as in `narrow`; changed in place
    """
    for i in range(starts.size):
        start, bit = starts[i], stops[i] - 1
        value = (answers[i >> 6] >> U(i & 63)) & U(1)
        if start % block_bits:
            value ^= _at(difference, start)
        known[bit >> 6] |= U(1) << U(bit & 63)
        difference[bit >> 6] |= value << U(bit & 63)


@njit(BITS_OUT(INT, INT, WORDS_IN, WORDS_IN), cache=True, nogil=True)
def odd_blocks(n_bits, block_bits, difference, flipped):
    """uint8[blocks]: 1 where a block holds an odd number of errors."""
    out = np.zeros((n_bits + block_bits - 1) // block_bits, np.uint8)
    for j in range(out.size):
        stop = min(n_bits, (j + 1) * block_bits)
        out[j] = np.uint8(_at(difference, stop) ^ _at(flipped, stop))
    return out


@njit(NOTHING(INDICES_IN, INT, INT, WORDS_OUT, BITS_OUT), cache=True, nogil=True)
def flip(positions, n_bits, block_bits, flipped, odd):
    """Note flips at ``positions``, uint32[flips], in ``flipped`` and ``odd``, in place."""
    for i in range(positions.size):
        at = np.int64(positions[i])
        block = at // block_bits
        odd[block] ^= np.uint8(1)
        _toggle(flipped, at, min(n_bits, (block + 1) * block_bits) - 1)
