"""Array steps of Cascade at the end whose bits are corrected to: it tells parities.

A *boundary* u, 0 <= u < n, stands behind bit u of a pass; its parity is that of the bits 0 .. u.
Frames stand one after another in flat arrays, by the slots that they are in: ``words`` words of
bits each, and ``words`` of prefix parities for each of its passes.
"""

import numpy as np
from numba import njit

from qkd_core.kernels.cascade_permutation import (
    OPTIONS,
    ROWS,
    SHORTS_IN,
    permute,
    prefix_parities,
)
from qkd_core.kernels.signatures import (
    INDICES_IN,
    INT,
    INTS_IN,
    INTS_OUT,
    NOTHING,
    WORDS_IN,
    WORDS_OUT,
)

U = np.uint64
FINISHED = 1 << 31  # in the header of a frame, instead of a pass and a count
PASS_SHIFT = 24
WORD_BITS = 64
HEADER = U(0xFFFFFFFF)
COUNT = (1 << PASS_SHIFT) - 1


@njit(
    NOTHING(WORDS_IN, INTS_IN, INT, SHORTS_IN, INTS_IN, INTS_IN, WORDS_OUT, WORDS_OUT, WORDS_OUT),
    **OPTIONS,
)
def open_reference(bits, slots, words, tables, block_bits, n_blocks, prefixes, tops, scratch):  # noqa: PLR0913, PLR0917 (kernel)
    """Prefix parities of every pass of the frames in ``slots``, and at the ends of all blocks.

    bits        uint64[all slots * words]
    slots       int64[m]
    tables      of all permutations but the first pass's, which has none
    block_bits, n_blocks  int64[passes]
    prefixes    uint64[all slots * passes * words]
    tops        uint64[m * k], k words for all ends of blocks of a frame, pass after pass
    scratch     uint64[2 * words + 64]
    """
    n_passes = block_bits.size
    n_bits = 64 * words
    to = 0
    for slot in slots:
        gathered = U(0)
        filled = 0
        for t in range(n_passes):
            at = (slot * n_passes + t) * words
            if t == 0:
                prefix_parities(bits, slot * words, words, prefixes, at)
            else:
                base = (t - 1) * ROWS * words
                permute(bits, slot * words, words, tables, base, scratch, scratch[words:])
                prefix_parities(scratch, 0, words, prefixes, at)
            for j in range(n_blocks[t]):
                u = min(n_bits, (j + 1) * block_bits[t]) - 1
                parity = (prefixes[at + (u >> 6)] >> U(u & 63)) & U(1)
                gathered |= parity << U(filled)
                filled += 1
                if filled == WORD_BITS:
                    tops[to] = gathered
                    to += 1
                    gathered = U(0)
                    filled = 0
        if filled:
            tops[to] = gathered
            to += 1


@njit(INT(WORDS_IN, INT, INT, INTS_IN, INTS_OUT), **OPTIONS)
def _read_headers(message, at, count, n_blocks, totals):
    """Fill ``totals`` as in `answer`, but for its first; -1 if a header cannot be, else 0."""
    totals[:] = 0
    if at + ((count + 1) >> 1) > message.size:
        return -1
    for i in range(count):
        header = np.int64((message[at + (i >> 1)] >> U(32 * (i & 1))) & HEADER)
        if header == FINISHED:
            totals[2] += 1
            continue
        t = header >> PASS_SHIFT
        asked = header & COUNT
        if t >= n_blocks.size or asked < 1 or asked > n_blocks[t]:
            return -1
        totals[1] += asked
    return 0


@njit(
    [
        INT(WORDS_IN, asked, INT, INTS_IN, INTS_IN, WORDS_IN, INT, INTS_OUT, INTS_OUT, WORDS_OUT)
        for asked in (SHORTS_IN, INDICES_IN)
    ],
    **OPTIONS,
)
def answer(message, asked, at, n_blocks, slots, prefixes, words, told, totals, out):  # noqa: PLR0913, PLR0917 (kernel)
    """Read the questions about the frames in ``slots`` and write the parities asked for to ``out``.

    message   uint64[n]: from ``at`` on a header for each slot, two to a word: FINISHED, or the
              pass << 24 | how many boundaries; then the boundaries
    asked     the same as uint16 or uint32, which is how boundaries are read
    n_blocks  int64[passes]: nobody asks for more boundaries of a pass in one round
    slots     int64[m]
    prefixes  as `open_reference` makes them
    told      int64[all slots]: bits told of the frame in each; added to
    totals    int64[3]: where the questions end in ``message``, boundaries asked for, frames that
              finish
    out       uint64[enough]; the answers of each frame start a word

    Returns where the answers end, or -1 if a question cannot be.
    """
    n_passes = n_blocks.size
    headers = at
    at += (slots.size + 1) >> 1
    if _read_headers(message, headers, slots.size, n_blocks, totals) < 0:
        return -1
    per_word = 8 // asked.itemsize
    totals[0] = at + (totals[1] + per_word - 1) // per_word
    if totals[0] > message.size:
        return -1
    n_bits = U(64 * words)
    from_asked = U(at * per_word)
    to = 0
    for i in range(slots.size):
        header = np.int64((message[headers + (i >> 1)] >> U(32 * (i & 1))) & HEADER)
        if header == FINISHED:
            continue
        count = header & COUNT
        told[slots[i]] += count
        base = U((slots[i] * n_passes + (header >> PASS_SHIFT)) * words)
        for first in range(0, count, WORD_BITS):
            here = U(count - first) if count - first < WORD_BITS else U(WORD_BITS)
            gathered = U(0)
            for k in range(here):
                u = U(asked[from_asked + k])
                if u >= n_bits:
                    return -1
                gathered |= ((prefixes[base + (u >> U(6))] >> (u & U(63))) & U(1)) << k
            out[to] = gathered
            to += 1
            from_asked += here
    return to
