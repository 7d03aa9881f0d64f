"""One word of 64 bits at a time: how many are set, which are chosen, where they go.

Source: Warren, "Hacker's Delight", 2nd edition, 2012: sections 5-1 (counting), 7-4 (compress).
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from qkd_core.kernels.signatures import INTS_OUT, NOTHING, WORD, WORDS_IN

U = np.uint64
STRIP = 256  # words of each plane at a time: read a second time, they come from the nearest cache


@njit(WORD(WORD), cache=True, nogil=True)
def popcount(x):
    """The number of set bits; LLVM knows the pattern and uses the CPU's instruction for it."""
    x -= (x >> U(1)) & U(0x5555555555555555)
    x = (x & U(0x3333333333333333)) + ((x >> U(2)) & U(0x3333333333333333))
    x = (x + (x >> U(4))) & U(0x0F0F0F0F0F0F0F0F)
    return (x * U(0x0101010101010101)) >> U(56)


@njit(WORD(WORD, WORD), cache=True, nogil=True)
def compressed(x, mask):
    """The bits of ``x`` under the set bits of ``mask``, moved together at the low end."""
    x &= mask
    zeros_below = ~mask << U(1)
    for stage in range(6):
        step = U(1 << stage)
        odd = zeros_below  # where the number of zeros below is odd: prefix parities
        for shift in (1, 2, 4, 8, 16, 32):
            odd ^= odd << U(shift)
        moving = odd & mask
        mask = (mask ^ moving) | (moving >> step)
        moved = x & moving
        x = (x ^ moved) | (moved >> step)
        zeros_below &= ~odd
    return x


@njit(WORD(WORD, WORD), cache=True, nogil=True)
def expanded(x, mask):
    """The low bits of ``x``, in order, at the set bits of ``mask``."""
    out = U(0)
    while mask:
        lowest = mask & (~mask + U(1))
        out |= lowest * (x & U(1))
        x >>= U(1)
        mask ^= lowest
    return out


def _of_two_words(name):
    """An LLVM function of two words as an intrinsic."""

    @intrinsic
    def function(_, first, second):
        def generate(_context, builder, _signature, arguments):
            word = ir.IntType(64)
            kind = ir.FunctionType(word, [word, word])
            called = cgutils.get_or_insert_function(builder.module, kind, name)
            return builder.call(called, arguments)

        return types.uint64(types.uint64, types.uint64), generate

    return function


_pext = _of_two_words("llvm.x86.bmi.pext.64")
_pdep = _of_two_words("llvm.x86.bmi.pdep.64")


def together(way, x, mask):
    """`compressed`; in compiled code by BMI2 when ``way`` is a number, not when it is None."""
    return compressed(x, mask)


def apart(way, x, mask):
    """`expanded`, likewise."""
    return expanded(x, mask)


@overload(together)
def _together(way, x, mask):
    if isinstance(way, types.NoneType):
        return lambda way, x, mask: compressed(x, mask)
    return lambda way, x, mask: _pext(x, mask)


@overload(apart)
def _apart(way, x, mask):
    if isinstance(way, types.NoneType):
        return lambda way, x, mask: expanded(x, mask)
    return lambda way, x, mask: _pdep(x, mask)


@njit(WORD(WORD, WORD), cache=True, nogil=True)
def above(x, shift):
    """What a shift of ``x`` by ``shift`` < 64 pushes out at the high end."""
    return (x >> U(1)) >> (U(63) - shift)


@njit(
    NOTHING(WORDS_IN, WORDS_IN, WORDS_IN, WORDS_IN, WORDS_IN, INTS_OUT),
    cache=True,
    nogil=True,
)
def tally(basis, their_basis, decoy, vacuum, wrong, counts):  # noqa: PLR0913, PLR0917 (kernel)
    """Add the counts of some words of events to ``counts``, int64[9], as `sifting.sift` gives them.

    wrong   uint64[words or more], 1 where the bits differ and both bases could be 1
    others  uint64[words], as at `sifting.sift`
    """
    keys, keys_decoy, keys_vacuum = U(0), U(0), U(0)
    tests, tests_decoy, tests_vacuum = U(0), U(0), U(0)
    errors, errors_decoy, errors_vacuum = U(0), U(0), U(0)
    for i in range(basis.size):
        in_key, in_test = ~(basis[i] | their_basis[i]), basis[i] & their_basis[i]
        keys += popcount(in_key)
        keys_decoy += popcount(in_key & decoy[i])
        keys_vacuum += popcount(in_key & vacuum[i])
        tests += popcount(in_test)
        tests_decoy += popcount(in_test & decoy[i])
        tests_vacuum += popcount(in_test & vacuum[i])
        error = in_test & wrong[i]
        errors += popcount(error)
        errors_decoy += popcount(error & decoy[i])
        errors_vacuum += popcount(error & vacuum[i])
    counts[0] += np.int64(keys - keys_decoy - keys_vacuum)
    counts[1] += np.int64(keys_decoy)
    counts[2] += np.int64(keys_vacuum)
    counts[3] += np.int64(tests - tests_decoy - tests_vacuum)
    counts[4] += np.int64(tests_decoy)
    counts[5] += np.int64(tests_vacuum)
    counts[6] += np.int64(errors - errors_decoy - errors_vacuum)
    counts[7] += np.int64(errors_decoy)
    counts[8] += np.int64(errors_vacuum)
