"""Array steps of sifting: bits by mask into words, and counts."""

import numpy as np
from numba import njit, types

from qkd_core.kernels.signatures import BITS_IN, WORDS_OUT

U = np.uint64


@njit(WORDS_OUT(BITS_IN, BITS_IN), cache=True, nogil=True)
def extracted(bits, chosen):
    """Packed: those of ``bits`` for which ``chosen`` is 1, in order; both uint8[n], 0 or 1."""
    total = np.int64(0)
    for i in range(chosen.size):
        total += np.int64(chosen[i])
    out = np.zeros((total + 63) >> 6, np.uint64)
    at = np.int64(0)
    for i in range(bits.size):
        if chosen[i]:
            out[at >> 6] |= U(bits[i]) << U(at & 63)
            at += 1
    return out


@njit(types.int64[:, ::1](BITS_IN, BITS_IN, BITS_IN), cache=True, nogil=True)
def tallied(basis, intensity, error):
    """int64[3, 3]: per intensity the events in basis 0, in basis 1, and the errors in basis 1.

    basis      uint8[n], 0 or 1, of both ends
    intensity  uint8[n], 0 to 2 (the caller checks)
    error      uint8[n], 0 or 1; read in basis 1 only
    """
    out = np.zeros((3, 3), np.int64)
    for i in range(basis.size):
        k = intensity[i]
        out[k, basis[i]] += 1
        if basis[i]:
            out[k, 2] += np.int64(error[i])
    return out
