"""The polynomial hash by aggregated Horner steps, on the widest path that the CPU runs.

Sixty-four blocks are multiplied by as many powers of the hash key, and reduced once. Nothing here
is compiled before `family` is asked for a path: the instructions may not be there.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import numpy.typing as npt
from numba import njit, types
from numba.extending import register_jitable

from qkd_core.kernels import cpu, gf128
from qkd_core.kernels.gf128_wide import sum_of_products
from qkd_core.kernels.signatures import BITS_IN, INT, WORDS_IN, WORDS_OUT

Words = npt.NDArray[np.uint64]
PolynomialHash = Callable[[Words, npt.NDArray[np.uint8], int], Words]
GROUP = 64  # blocks under one reduction: 1 KiB, and as many powers, which stay in cache
LANES = {cpu.Path.PCLMUL: 1, cpu.Path.AVX2: 2, cpu.Path.AVX512: 4}


@register_jitable
def _descending_powers(hash_key, count):
    """The powers r^count, ..., r^2, r of ``hash_key``, and the sum of the two words of each.

    hash_key  uint64[2], r

    Returns uint64[2 count] and uint64[2 count]; of the sums, the even words count.
    """
    powers, sums = np.zeros(2 * count, np.uint64), np.zeros(2 * count, np.uint64)
    state = np.zeros(2, np.uint64)
    nothing = np.zeros(0, np.uint8)
    for k in range(1, count + 1):
        at = count - k
        if k == 1:
            state[0], state[1] = hash_key[0], hash_key[1]
        else:  # from its two halves: the next ones need not wait for it
            half = count - (k >> 1)
            state[0], state[1] = powers[2 * half], powers[2 * half + 1]
            sum_of_products((0,), nothing, 0, powers, sums, count - ((k + 1) >> 1), 0, state)
        powers[2 * at], powers[2 * at + 1] = state[0], state[1]
        sums[2 * at] = state[0] ^ state[1]
    return powers, sums


@register_jitable
def _close(message, first, n_bits, powers, sums, state):  # noqa: PLR0913, PLR0917 (part of a kernel)
    """Add to the hash ``state`` the blocks from ``first`` on, zeros to a whole one, and the length.

    message       uint8[n], with fewer blocks from ``first`` on than there are powers
    powers, sums  of `_descending_powers`, two or more
    state         uint64[2], changed in place
    """
    count = powers.size >> 1
    left = (message.size >> 4) - first
    if left > 0:
        sum_of_products((0,), message, first, powers, sums, count - left, left, state)
    closing = np.zeros(32, np.uint8)
    rest = message.size & 15
    for i in range(rest):
        closing[i] = message[message.size - rest + i]
    for i in range(8):
        closing[16 + i] = (n_bits >> (8 * i)) & 255
    ends = 2 if rest else 1
    sum_of_products((0,), closing, 2 - ends, powers, sums, count - ends, ends, state)


def _polynomial_hash(lanes, hash_key, message, n_bits):
    """As `gf128.polynomial_hash`, ``len(lanes)`` blocks at a time."""
    whole = message.size >> 4
    count = min(GROUP, max(2, whole))
    powers, sums = _descending_powers(hash_key, count)
    state = np.zeros(2, np.uint64)
    at = np.int64(0)
    while whole - at >= GROUP:
        sum_of_products(lanes, message, at, powers, sums, 0, GROUP // len(lanes), state)
        at += GROUP
    several = (whole - at) // len(lanes)
    if several > 0:
        start = count - len(lanes) * several
        sum_of_products(lanes, message, at, powers, sums, start, several, state)
        at += len(lanes) * several
    _close(message, at, n_bits, powers, sums, state)
    return state


@cache
def family(path: cpu.Path) -> PolynomialHash:
    """`gf128.polynomial_hash`, compiled for a path that `cpu.runs`."""
    if path is cpu.Path.PLAIN:
        plain: PolynomialHash = gf128.polynomial_hash
        return plain
    marker = (0,) * LANES[path]
    signature = WORDS_OUT(types.UniTuple(types.int64, len(marker)), WORDS_IN, BITS_IN, INT)
    return partial(njit(signature, cache=True, nogil=True)(_polynomial_hash), marker)


polynomial_hash = family(cpu.path())
