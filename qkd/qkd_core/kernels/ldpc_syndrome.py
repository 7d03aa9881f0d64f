"""The syndrome of a quasi-cyclic code on packed words."""

import numpy as np
from numba import njit

from qkd_core.kernels.signatures import INT, INTS_IN, NOTHING, WORDS_IN, WORDS_OUT

U = np.uint64


@njit(NOTHING(WORDS_IN, INT, INTS_IN, INTS_IN, INTS_IN, WORDS_OUT), cache=True, nogil=True)
def syndrome(bits, lanes, ends, columns, shifts, out):  # noqa: PLR0913, PLR0917 (kernel)
    """The parities of all checks: each row adds up its columns, turned by their shifts.

    bits  uint64[columns * lanes / 64]
    out   uint64[rows * lanes / 64]
    the others as in `ldpc_decoder.decode`
    """
    n = lanes >> 6
    for row in range(ends.size - 1):
        to = row * n
        out[to : to + n] = U(0)
        for edge in range(ends[row], ends[row + 1]):
            base = columns[edge] * n
            at = shifts[edge] >> 6
            low = U(shifts[edge] & 63)
            high = U(63) - low
            word = bits[base + at]
            for i in range(n):
                at += 1
                if at == n:
                    at = 0
                following = bits[base + at]
                out[to + i] ^= (word >> low) | ((following << U(1)) << high)
                word = following
