"""Counter-based random words for kernels: word n of a stream is a mix of key + n * GOLDEN.

Any word can be had at random access, so settings need no storage. Source: SplitMix64, Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. For simulation only.
"""

import math
from hashlib import sha256

import numpy as np
import numpy.typing as npt
from numba import njit, types

U64 = types.uint64
I64 = types.int64
F64 = types.float64
U64_IN = types.Array(types.uint64, 1, "C", readonly=True)
I64_IN = types.Array(types.int64, 1, "C", readonly=True)
F64_IN = types.Array(types.float64, 1, "C", readonly=True)

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S11 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(11)
ALICE, BOB, EVENTS = 0, 1, 2  # which key of a block serves what


def block_keys(seed: int) -> npt.NDArray[np.uint64]:
    """uint64[3]: the keys of one block for Alice's settings, Bob's bases, and the events."""
    labels = ("alice", "bob", "events")
    digests = [sha256(f"{seed} {label}".encode()).digest()[:8] for label in labels]
    return np.array([int.from_bytes(digest, "big") for digest in digests], np.uint64)


@njit(U64(U64), cache=True, nogil=True)
def mix64(z):
    """The finaliser of SplitMix64: a bijection of 64-bit words."""
    z = (z ^ (z >> _S30)) * _FIRST
    z = (z ^ (z >> _S27)) * _SECOND
    return z ^ (z >> _S31)


@njit(U64(U64, I64), cache=True, nogil=True)
def word_at(key, index):
    """Word ``index`` of the stream ``key``."""
    return mix64(key + np.uint64(index + 1) * GOLDEN)


@njit(F64(U64), cache=True, nogil=True)
def unit(word):
    """A number in [0, 1) from the upper 53 bits."""
    return np.float64(word >> _S11) * (1.0 / 9007199254740992.0)


@njit(F64(U64), cache=True, nogil=True)
def exponential(word):
    """A number from the exponential law of mean 1."""
    return -math.log(1.0 - unit(word))
