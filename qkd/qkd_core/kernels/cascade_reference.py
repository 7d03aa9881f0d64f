"""Array steps of Cascade at the end whose bits are corrected to: it tells parities.

A *boundary* u, 0 <= u < n, stands behind bit u of a pass; its parity is that of the bits 0 .. u.
Frames stand one after another in flat arrays: ``words`` words of bits each, and ``words`` of
prefix parities for each of its passes.
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
LAST = 63  # bit of a word
HEADER = U(0xFFFFFFFF)
COUNT = (1 << PASS_SHIFT) - 1


@njit(
    NOTHING(WORDS_IN, INT, SHORTS_IN, INTS_IN, INTS_IN, WORDS_OUT, WORDS_OUT, WORDS_OUT),
    **OPTIONS,
)
def open_reference(bits, words, tables, block_bits, n_blocks, prefixes, tops, scratch):  # noqa: PLR0913, PLR0917 (kernel)
    """Prefix parities of every pass of every frame, and those at the ends of all blocks.

    bits        uint64[frames * words]
    tables      of all permutations but the first pass's, which has none
    block_bits, n_blocks  int64[passes]
    prefixes    uint64[frames * passes * words]
    tops        uint64[frames * m], m words for all ends of blocks of a frame, pass after pass
    scratch     uint64[2 * words + 64]
    """
    n_passes = block_bits.size
    n_bits = 64 * words
    to = 0
    for frame in range(bits.size // words):
        gathered = U(0)
        filled = 0
        for t in range(n_passes):
            at = (frame * n_passes + t) * words
            if t == 0:
                prefix_parities(bits, frame * words, words, prefixes, at)
            else:
                base = (t - 1) * ROWS * words
                permute(bits, frame * words, words, tables, base, scratch, scratch[words:])
                prefix_parities(scratch, 0, words, prefixes, at)
            for j in range(n_blocks[t]):
                u = min(n_bits, (j + 1) * block_bits[t]) - 1
                parity = (prefixes[at + (u >> 6)] >> U(u & 63)) & U(1)
                gathered |= parity << U(filled)
                filled += 1
                if filled > LAST:
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
    INT(WORDS_IN, INT, INT, INTS_IN, INTS_IN, WORDS_IN, INT, INTS_OUT, INTS_OUT, WORDS_OUT),
    **OPTIONS,
)
def answer(message, at, per_word, n_blocks, frames, prefixes, words, told, totals, out):  # noqa: PLR0913, PLR0917 (kernel)
    """Read the questions about ``frames`` and write the parities asked for to ``out``.

    message   uint64[n]: from ``at`` on a header for each frame, two to a word: FINISHED, or the
              pass << 24 | how many boundaries; then the boundaries, ``per_word`` (2 or 4) to one
    n_blocks  int64[passes]: nobody asks for more boundaries of a pass in one round
    frames    int64[m]
    prefixes  as `open_reference` makes them
    told      int64[all frames]: bits told of each; added to
    totals    int64[3]: where the questions end in ``message``, boundaries asked for, frames that
              finish
    out       uint64[enough]; the answers of each frame start a word

    Returns where the answers end, or -1 if a question cannot be.
    """
    n_passes = n_blocks.size
    headers = at
    at += (frames.size + 1) >> 1
    if _read_headers(message, headers, frames.size, n_blocks, totals) < 0:
        return -1
    totals[0] = at + (totals[1] + per_word - 1) // per_word
    if totals[0] > message.size:
        return -1
    width = 64 // per_word
    to_word = per_word >> 1  # its logarithm
    mask = (U(1) << U(width)) - U(1)
    asked = 0
    to = 0
    for i in range(frames.size):
        header = np.int64((message[headers + (i >> 1)] >> U(32 * (i & 1))) & HEADER)
        if header == FINISHED:
            continue
        count = header & COUNT
        told[frames[i]] += count
        base = (frames[i] * n_passes + (header >> PASS_SHIFT)) * words
        gathered = U(0)
        for k in range(count):
            word = message[at + (asked >> to_word)]
            u = np.int64((word >> U(width * (asked & (per_word - 1)))) & mask)
            asked += 1
            if u >= 64 * words:
                return -1
            gathered |= ((prefixes[base + (u >> 6)] >> U(u & 63)) & U(1)) << U(k & 63)
            if k & 63 == LAST or k == count - 1:
                out[to] = gathered
                to += 1
                gathered = U(0)
    return to
