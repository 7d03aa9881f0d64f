"""Sifting on packed words: planes of bits, key bits by mask, and all counts.

`extracted` and `sift` are compiled for a way to move bits together: with BMI2, or in plain integer
arithmetic. The way is an argument whose type decides, so that both have one source.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial

import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt
from numba import njit, types

from qkd_core.kernels import cpu
from qkd_core.kernels.sifting_words import STRIP, above, apart, popcount, tally, together
from qkd_core.kernels.signatures import BITS_IN, INT, INTS_OUT, WORDS_IN, WORDS_OUT

U = np.uint64
Words = npt.NDArray[np.uint64]
PLANES = 4
LOW_BITS = U(0x0101010101010101)
GATHER = U(0x0102040810204080)  # times bits at 0, 8, .., 56: they meet at 56 .. 63

# Their BMI2 is microcode, at some ten to hundreds of cycles a word. Source: Fog, "Instruction
# tables": AMD Excavator, Zen and Zen 2.
SLOW = frozenset({"bdver4", "znver1", "znver2"})


@njit(types.uint64[:, ::1](BITS_IN), cache=True, nogil=True)
def planes(values):
    """Bit k of each of ``values``, uint8[n], as packed bits in row k, for k = 0 to 3.

    Returns uint64[4, ceil(n / 64)].
    """
    words = (values.size + 63) >> 6
    out = np.zeros((PLANES, words), np.uint64)
    eights = values[: values.size - (values.size & 7)].view(np.uint64)
    for i in range(eights.size):
        for k in range(PLANES):
            byte = (((eights[i] >> U(k)) & LOW_BITS) * GATHER) >> U(56)
            out[k, i >> 3] |= byte << U(8 * (i & 7))
    for i in range(8 * eights.size, values.size):
        for k in range(PLANES):
            out[k, i >> 6] |= U((values[i] >> k) & 1) << U(i & 63)
    return out


def _extracted(way, bits, mask):
    """Packed: those of ``bits`` for which ``mask`` is 1, in order; both uint64[words].

    Returns uint64[ceil(k / 64)] for k set bits of ``mask``, zero beyond them.
    """
    total = U(0)
    for i in range(mask.size):
        total += popcount(mask[i])
    out = np.zeros(np.int64((total + U(63)) >> U(6)), np.uint64)
    at, fill, held = U(0), U(0), U(0)
    for i in range(mask.size):
        found = together(way, bits[i], mask[i])
        held |= found << fill
        spilt = above(found, fill)
        fill += popcount(mask[i])
        if fill >= U(64):
            out[at] = held
            held = spilt
            fill -= U(64)
            at += U(1)
    if fill:
        out[at] = held
    return out


def _sift(way, bit, basis, their_basis, decoy, vacuum, their_test, n_events, key):  # noqa: PLR0913, PLR0917 (kernel)
    """The key bits of one end, and all counts, in one pass over the packed events.

    bit          uint64[words], this end's bits, of both bases
    basis        uint64[words], 0 is the key basis; their_basis is the other end's
    decoy        uint64[words], 1 where the intensity is the decoy's; vacuum the near vacuum's
    their_test   uint64[...], the other end's bits where its basis is 1, one after the other
    n_events     of ``words = ceil(n_events / 64)``; beyond them the planes are zero
    key          uint64[words + 1], set to the bits where both bases are 0, one after the other

    Returns int64[9]: events in the key basis, in the test basis, and errors in the test basis,
    each for the intensities signal, decoy, near vacuum.
    """
    theirs = np.zeros(their_test.size + 1, np.uint64)  # the word after the last one is read, too
    for i in range(their_test.size):
        theirs[i] = their_test[i]
    counts = np.zeros(9, np.int64)
    wrong = np.zeros(STRIP, np.uint64)
    at, fill, held, announced = U(0), U(0), U(0), U(0)  # unsigned indices need no test for below 0
    for first in range(0, basis.size, STRIP):
        part = slice(first, min(first + STRIP, basis.size))
        own, ours, yours = bit[part], basis[part], their_basis[part]
        for i in range(own.size):
            in_key = ~(ours[i] | yours[i])
            found = together(way, own[i], in_key)
            joined = held | (found << fill)
            key[at] = joined
            spilt = above(found, fill)
            fill += popcount(in_key)
            held = spilt if fill >= U(64) else joined
            at += fill >> U(6)
            fill &= U(63)
            place, offset = announced >> U(6), announced & U(63)
            coming = (theirs[place] >> offset) | (
                (theirs[place + U(1)] << U(1)) << (U(63) - offset)
            )
            announced += popcount(yours[i])
            wrong[i] = (apart(way, coming, yours[i]) ^ own[i]) & ours[i]
        tally(ours, yours, decoy[part], vacuum[part], wrong, counts)
    key[at] = held
    counts[0] -= 64 * basis.size - n_events  # beyond the last event the planes look like key
    return counts


class Extraction(Enum):
    """How the bits under a mask are moved together: the argument ``way`` and its type."""

    PLAIN = (None, types.none)
    BMI2 = (2, types.int64)


@dataclass(frozen=True, slots=True)
class Family:
    """`_extracted` and `_sift` for one way, without that argument."""

    extracted: Callable[[Words, Words], Words]
    sift: Callable[..., npt.NDArray[np.int64]]


def runnable() -> tuple[Extraction, ...]:
    """The ways that this CPU can run."""
    return tuple(Extraction) if "bmi2" in cpu.features() else (Extraction.PLAIN,)


def preferred() -> Extraction:
    """The faster one on this CPU."""
    slow = llvm.get_host_cpu_name() in SLOW
    return Extraction.PLAIN if slow else runnable()[-1]


@cache
def family(way: Extraction) -> Family:
    """The kernels compiled for a way that is `runnable`."""
    value, kind = way.value
    extract = njit(WORDS_OUT(kind, WORDS_IN, WORDS_IN), cache=True, nogil=True)(_extracted)
    planes = 6 * (WORDS_IN,)  # the last of them holds test bits
    sift = njit(INTS_OUT(kind, *planes, INT, WORDS_OUT), cache=True, nogil=True)(_sift)
    return Family(partial(extract, value), partial(sift, value))


extracted, sift = family(preferred()).extracted, family(preferred()).sift
