"""Permutations of a frame's bits that cost a little per word: what the passes of Cascade need.

A frame is ``words`` 64-bit words, a multiple of 64. A permutation has two stages and an end. In a
stage the words are put in a random order and rotated by random amounts; then each 64 words, as a
matrix of 64 by 64 bits, are transposed. At the end the words are put in a random order. One stage
would not do: two words of one matrix would still meet in every word of the next pass.

Its tables, uint16[8 * words], are eight rows of ``words`` entries: three orders of words, each
followed by its inverse, and two rows of rotations.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from qkd_core.kernels.carryless import I64, LANES, V8, pointer, shuffled
from qkd_core.kernels.signatures import INT, NOTHING, WORD, WORDS_IN, WORDS_OUT

U = np.uint64
OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
}  # none allocates
SHORTS_IN = types.Array(types.uint16, 1, "C", readonly=True)
SHORTS_OUT = types.uint16[::1]
ROWS = 8
SIDE = 64  # of a matrix: words, and bits
FIRST, FIRST_BACK, SECOND, SECOND_BACK, LAST, LAST_BACK, TURN, TURN_AGAIN = range(ROWS)
STEP = U(0x9E3779B97F4A7C15)
DRAW_BITS = 21  # of each random number, three to a word
DRAW = U((1 << DRAW_BITS) - 1)
HALVES = {  # of each group of 2 j bits the low j, for a transposition in steps
    32: 0x00000000FFFFFFFF,
    16: 0x0000FFFF0000FFFF,
    8: 0x00FF00FF00FF00FF,
    4: 0x0F0F0F0F0F0F0F0F,
    2: 0x3333333333333333,
    1: 0x5555555555555555,
}


def transpose(words, at):
    """Transpose the matrix of the words at .. at + 63 in place; bit c of word r is in column c."""
    for step, low in HALVES.items():
        for r in range(SIDE):
            if r & step:
                continue
            upper, lower = words[at + r], words[at + r + step]
            moved = ((upper >> U(step)) ^ lower) & U(low)
            words[at + r + step] = lower ^ moved
            words[at + r] = upper ^ (moved << U(step))


@overload(transpose)
def _transpose(words, at):
    return lambda words, at: _transpose_in_registers(words, at)


@intrinsic
def _transpose_in_registers(_typing, words, at):
    """The steps between words eight apart take two vectors, the others move lanes of one."""

    def generate(context, builder, signature, args):
        places = [
            pointer(
                context, builder, signature.args[0], args[0],
                builder.add(args[1], ir.Constant(I64, LANES * i)), V8,
            )
            for i in range(SIDE // LANES)
        ]  # fmt: skip
        rows = [builder.load(place, align=8) for place in places]
        for step in (32, 16, 8):
            _across(builder, rows, step)
        for step in (4, 2, 1):
            rows = [_within(builder, row, step) for row in rows]
        for place, row in zip(places, rows, strict=True):
            builder.store(row, place, align=8)
        return context.get_dummy_value()

    return types.void(words, types.intp), generate


def _lanes(values):
    return ir.Constant(V8, list(values))


def _across(builder, rows, step):
    low, count = _lanes([HALVES[step]] * LANES), _lanes([step] * LANES)
    for i in range(len(rows)):
        if i & step // LANES:
            continue
        upper, lower = rows[i], rows[i + step // LANES]
        moved = builder.and_(builder.xor(builder.lshr(upper, count), lower), low)
        rows[i + step // LANES] = builder.xor(lower, moved)
        rows[i] = builder.xor(upper, builder.shl(moved, count))


def _within(builder, row, step):
    upper = [not lane & step for lane in range(LANES)]
    kept = [HALVES[step] if up else HALVES[step] ^ (2**64 - 1) for up in upper]
    other = shuffled(builder, row, row, [lane ^ step for lane in range(LANES)])
    left = builder.shl(other, _lanes([step if up else 0 for up in upper]))
    moved = builder.lshr(left, _lanes([0 if up else step for up in upper]))
    stays = builder.and_(row, _lanes(kept))
    comes = builder.and_(moved, _lanes([mask ^ (2**64 - 1) for mask in kept]))
    return builder.or_(stays, comes)


@njit(WORD(WORD), **OPTIONS)
def _mixed(z):
    """The output function of splitmix64: Steele, Lea, Flood, OOPSLA 2014."""
    z = (z ^ (z >> U(30))) * U(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> U(27))) * U(0x94D049BB133111EB)
    return z ^ (z >> U(31))


@njit(NOTHING(WORD, INT, INT, SHORTS_OUT), **OPTIONS)
def draw_tables(seed, words, n_tables, tables):
    """Draw the tables of ``n_tables`` permutations, one after another in ``tables``.

    The orders are by Fisher-Yates. Numbers of 21 bits choose among at most 2^14 words: no choice
    is more than 1 % likelier than another.
    """
    state = _mixed(seed)
    for n in range(n_tables):
        base = n * ROWS * words
        for i in range(words):
            tables[base + FIRST * words + i] = i
            tables[base + SECOND * words + i] = i
            tables[base + LAST * words + i] = i
        for i in range(words - 1, 0, -1):
            state += STEP
            z = _mixed(state)
            for order in range(3):
                row = base + 2 * order * words
                j = row + np.int64(((z & DRAW) * U(i + 1)) >> U(DRAW_BITS))
                z >>= U(DRAW_BITS)
                here = tables[row + i]
                tables[row + i] = tables[j]
                tables[j] = here
        for i in range(words):
            state += STEP
            z = _mixed(state)
            tables[base + TURN * words + i] = z & U(63)
            tables[base + TURN_AGAIN * words + i] = (z >> U(6)) & U(63)
            for order in range(3):
                row = base + 2 * order * words
                tables[row + words + np.int64(tables[row + i])] = i


@njit(
    NOTHING(WORDS_IN, INT, INT, SHORTS_IN, INT, WORDS_OUT, WORDS_OUT),
    **OPTIONS,
)
def permute(bits, at, words, tables, base, out, scratch):  # noqa: PLR0913, PLR0917 (kernel)
    """Permute the frame of ``words`` words that starts at ``bits[at]``.

    tables   as drawn; those of this permutation start at ``base``
    out      uint64[words or more]
    scratch  uint64[words + 64]
    """
    for group in range(0, words, SIDE):
        for i in range(group, group + SIDE):
            x = bits[at + np.int64(tables[base + i])]
            turn = U(tables[base + TURN * words + i])
            scratch[i] = (x << turn) | (x >> ((U(64) - turn) & U(63)))
        transpose(scratch, group)
    for group in range(0, words, SIDE):
        for i in range(SIDE):
            x = scratch[np.int64(tables[base + SECOND * words + group + i])]
            turn = U(tables[base + TURN_AGAIN * words + group + i])
            scratch[words + i] = (x << turn) | (x >> ((U(64) - turn) & U(63)))
        transpose(scratch, words)
        for i in range(SIDE):
            out[np.int64(tables[base + LAST * words + group + i])] = scratch[words + i]


@njit(WORD(SHORTS_IN, WORD, WORD, WORD), **OPTIONS)
def place(tables, base, words, position):
    """Where `permute` puts the bit at ``position``; unsigned, as all indices in inner loops."""
    low = U(63)
    word = U(tables[base + U(FIRST_BACK) * words + (position >> U(6))])
    turn = U(tables[base + U(TURN) * words + word])
    row = (word & ~low) | ((position + turn) & low)
    word_2 = U(tables[base + U(SECOND_BACK) * words + row])
    turn = U(tables[base + U(TURN_AGAIN) * words + word_2])
    row = (word_2 & ~low) | ((word + turn) & low)
    return (U(tables[base + U(LAST) * words + row]) << U(6)) | (word_2 & low)


@njit(WORD(SHORTS_IN, WORD, WORD, WORD), **OPTIONS)
def origin(tables, base, words, position):
    """Where the bit comes from that `permute` puts at ``position``."""
    low = U(63)
    row = U(tables[base + U(LAST_BACK) * words + (position >> U(6))])
    word_2 = (row & ~low) | (position & low)
    turn = U(tables[base + U(TURN_AGAIN) * words + word_2])
    column = (row - turn) & low
    row = U(tables[base + U(SECOND) * words + word_2])
    word = (row & ~low) | column
    turn = U(tables[base + U(TURN) * words + word])
    return (U(tables[base + U(FIRST) * words + word]) << U(6)) | ((row - turn) & low)


@njit(NOTHING(WORDS_IN, INT, INT, WORDS_OUT, INT), **OPTIONS)
def prefix_parities(bits, at, words, out, out_at):
    """Bit i of the words from ``out[out_at]`` on: the sum of the bits 0 .. i of those at ``at``."""
    carry = U(0)
    for w in range(words):
        x = bits[at + w]
        x ^= x << U(1)
        x ^= x << U(2)
        x ^= x << U(4)
        x ^= x << U(8)
        x ^= x << U(16)
        x = x ^ (x << U(32)) ^ carry
        out[out_at + w] = x
        carry = U(0) - (x >> U(63))
