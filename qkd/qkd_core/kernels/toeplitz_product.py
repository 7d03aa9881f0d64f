"""The hash of privacy amplification, [T | I], as one product of polynomials over GF(2).

Of n bits the last n_out go into the hash as they are; to them the first m = n - n_out are added,
multiplied by the Toeplitz matrix T[i][j] = seed[i - j + m - 1] of n - 1 uniform bits. Two keys that
differ in the first m bits collide with probability 2^-n_out exactly, as T d is uniform for d != 0;
two that differ in the last ones alone never do. So the family is universal_2, with the same bound
as a Toeplitz matrix of all n columns, which takes n_out seed bits more.

Source: H. Krawczyk, "LFSR-based hashing and authentication", CRYPTO '94 (Toeplitz matrices);
M. Hayashi and T. Tsurumaru, "More efficient privacy amplification with less random seeds via dual
universal hash function", IEEE Trans. Inf. Theory 62, 2016, section IV (the modified Toeplitz hash).
"""

from functools import partial

import numpy as np
import numpy.typing as npt
from numba import njit

from qkd_core.kernels import cpu, fft_product
from qkd_core.kernels.carryless import compile_for
from qkd_core.kernels.signatures import INT, WORDS_IN, WORDS_OUT

U = np.uint64
Words = npt.NDArray[np.uint64]
CHUNK = 32  # bits of a coefficient


def family(path):
    """`toeplitz_product` by the instructions of ``path``; ValueError if the CPU lacks them."""
    compile_for(path, fft_product.PER_PATH)
    return partial(_hashed, path)


def toeplitz_product(seed: Words, n_bits: int, bits: Words, n_out: int) -> Words:
    """Hash ``bits`` with [T | I], on the widest path that this CPU runs.

    seed    uint64[(n_bits + 62) // 64], zero beyond n_bits - 1 bits
    bits    uint64[(n_bits + 63) // 64], zero beyond n_bits
    n_out   bits of the hash, 1 <= n_out <= n_bits (the caller checks)

    Returns uint64[(n_out + 63) // 64], zero beyond n_out. Time O(n_bits log n_bits).
    """
    hashed: Words = _hashed(cpu.path(), seed, n_bits, bits, n_out)
    return hashed


def _hashed(path, seed, n_bits, bits, n_out):
    m = n_bits - n_out
    if m == 0:
        return bits.copy()
    first = bits[: (m + 63) // 64].copy()
    if m % 64:
        first[-1] &= U((1 << m % 64) - 1)
    n_seed, n_first = (-(-n // CHUNK) for n in (n_bits - 1, m))
    points = points_for(n_seed, n_first, (m - 1) // CHUNK - 1)
    factors = seed.view(np.uint32)[:n_seed], first.view(np.uint32)[:n_first]
    product = fft_product.product(path, *factors, points)
    out = window(product, bits, m, n_out)
    for used in (first, product):
        used.fill(0)  # they tell of the key
    return out


def points_for(n_a, n_b, first):
    """The fewest points that tell the product's coefficients from ``first`` to ``n_a``.

    n_a, n_b  coefficients of the factors, n_b <= n_a
    """
    levels = fft_product.MIN_LEVELS
    while True:
        size = 1 << levels
        overflow = n_a + n_b - size
        # what is beyond is added at y^(2^k), where k is levels without its lowest digit or less
        reached = (1 << (levels & (levels - 1))) + overflow
        if overflow <= 0 or (n_a <= size and reached <= first):
            return fft_product.Points(levels, False)
        if n_a + n_b <= size + size // 2:
            return fft_product.Points(levels, True)
        levels += 1


@njit(WORDS_OUT(WORDS_IN, WORDS_IN, INT, INT), cache=True, nogil=True)
def window(product, bits, m, n_out):
    """The sum of ``n_out`` bits of ``product`` from m - 1 on and of ``bits`` from m on."""
    n_words = (n_out + 63) >> 6
    out = np.zeros(n_words, np.uint64)
    for words, start in ((product, m - 1), (bits, m)):
        at, down = start >> 6, U(start & 63)
        up = (U(64) - down) & U(63)
        carried = U(0) if down == U(0) else ~U(0)
        for w in range(n_words):
            value = words[at + w] >> down
            if at + w + 1 < words.size:
                value |= (words[at + w + 1] << up) & carried
            out[w] ^= value
    if n_out & 63:
        out[n_words - 1] &= (U(1) << U(n_out & 63)) - U(1)
    return out
