"""Detectors that are blind after a click, each for itself."""

import numpy as np
from numba import njit, types

from qkd_sim_link.sampling.generator import F64, F64_IN, I64

U8_IN = types.Array(types.uint8, 1, "C", readonly=True)
U8_OUT = types.uint8[::1]
DETECTORS = 4


@njit(I64(F64_IN, U8_IN, F64, U8_OUT), cache=True, nogil=True)
def see(time_ps, detector, dead_ps, seen):
    """Which clicks are seen by detectors that are blind for ``dead_ps`` after each; how many.

    time_ps   float64[n], rising
    detector  uint8[n], below 4
    seen      uint8[n], set to 1 or 0
    """
    live = np.full(DETECTORS, -np.inf)
    n = 0
    for i in range(time_ps.size):
        d = detector[i]
        seen[i] = time_ps[i] >= live[d]
        if seen[i]:
            live[d] = time_ps[i] + dead_ps
            n += 1
    return n
