"""Polynomial hashing over GF(2^128) = GF(2)[x] / (x^128 + x^7 + x^2 + x + 1), without intrinsics.

Plain bit order: an element is two little-endian uint64 words, and bit i is the coefficient of x^i.
"""

import numpy as np
from numba import njit

from qkd_core.kernels.signatures import BITS_IN, INT, NOTHING, WORDS_IN, WORDS_OUT

U = np.uint64
REDUCTION = U(0x87)  # x^128 = x^7 + x^2 + x + 1


@njit(WORDS_OUT(WORDS_IN), cache=True, nogil=True)
def nibble_products(factor):
    """All products of ``factor`` with a four-bit polynomial in one of its 32 places.

    factor  uint64[2]

    Returns uint64[1024]: the product with v(x) x^(4 p), 0 <= v < 16, stands at 2 (16 p + v).
    """
    table = np.zeros(1024, np.uint64)
    low, high = factor[0], factor[1]
    for place in range(32):
        base = 32 * place
        for bit in range(4):
            table[base + (2 << bit)] = low
            table[base + (2 << bit) + 1] = high
            carry = U(0) - (high >> U(63))
            high = (high << U(1)) | (low >> U(63))
            low = (low << U(1)) ^ (carry & REDUCTION)
        for v in range(3, 16):
            rest, lowest = base + 2 * (v & (v - 1)), base + 2 * (v & -v)
            if v & (v - 1):
                table[base + 2 * v] = table[rest] ^ table[lowest]
                table[base + 2 * v + 1] = table[rest + 1] ^ table[lowest + 1]
    return table


@njit(WORDS_OUT(WORDS_IN, WORDS_IN), cache=True, nogil=True)
def multiply(a, b):
    """The product of two elements, uint64[2] each."""
    table = nibble_products(b)
    out = np.zeros(2, np.uint64)
    for half in range(2):
        for place in range(16):
            v = (a[half] >> U(4 * place)) & U(15)
            at = U(512 * half + 32 * place) + (v << U(1))
            out[0] ^= table[at]
            out[1] ^= table[at + U(1)]
    return out


@njit(NOTHING(WORDS_IN, WORDS_IN, WORDS_OUT), cache=True, nogil=True)
def _absorb(blocks, table, state):
    """For each block of ``blocks``, uint64[2 m]: add it to ``state``, then multiply, in place."""
    low, high = state[0], state[1]
    for i in range(0, blocks.size, 2):
        low ^= blocks[i]
        high ^= blocks[i + 1]
        next_low, next_high = U(0), U(0)
        for place in range(16):
            at = U(32 * place) + (((low >> U(4 * place)) & U(15)) << U(1))
            next_low ^= table[at]
            next_high ^= table[at + U(1)]
            at = U(512 + 32 * place) + (((high >> U(4 * place)) & U(15)) << U(1))
            next_low ^= table[at]
            next_high ^= table[at + U(1)]
        low, high = next_low, next_high
    state[0], state[1] = low, high


@njit(WORDS_OUT(WORDS_IN, BITS_IN, INT), cache=True, nogil=True)
def polynomial_hash(hash_key, message, n_bits):
    """Hash ``message``, closed by a block with its bit length, at the point ``hash_key``.

    hash_key  uint64[2], r
    message   uint8[n], filled up with zeros to blocks m_0 .. m_(m-1) of 16 bytes
    n_bits    the length block m_m

    Returns uint64[2]: the sum of m_i r^(L - i) over the L = m + 1 blocks. Two messages collide
    under at most L of the 2^128 keys, also when a fixed difference of the hashes is asked for.
    Source: Carter and Wegman, "Universal classes of hash functions", 1979; den Boer, "A simple and
    key-economical unconditional authentication scheme", 1993. The GHASH of NIST SP 800-38D is
    the same polynomial with the bits of each byte reversed.
    """
    table = nibble_products(hash_key)
    state = np.zeros(2, np.uint64)
    rest = message.size & 15
    _absorb(message[: message.size - rest].view(np.uint64), table, state)
    closing = np.zeros(16, np.uint8)
    if rest:
        for i in range(rest):  # a loop: assigning a slice takes seconds to compile
            closing[i] = message[message.size - rest + i]
        _absorb(closing.view(np.uint64), table, state)
    length = np.zeros(2, np.uint64)
    length[0] = U(n_bits)
    _absorb(length, table, state)
    return state
