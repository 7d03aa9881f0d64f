"""Array steps of alignment: where in the pulse period clicks arrive, and one event a slot.

Times are int64 picoseconds; ``period_ps`` is not an integer in general.
"""

import math

import numpy as np
from numba import njit, types

from qkd_core.kernels.signatures import BITS_IN, BITS_OUT, INT, INTS_IN, INTS_OUT

PHASES = 4096  # parts of a period: the mean over their middles is off by 1/8192 at most


@njit(types.Tuple((INTS_OUT, types.boolean))(INTS_IN, types.float64), cache=True, nogil=True)
def arrivals(time_ps, period_ps):
    """Where in the period the clicks arrive, and whether they are in time order.

    time_ps  int64[n], in any order

    Returns int64[4096], the clicks in each part of the period, and a truth value.
    """
    counts = np.zeros(PHASES, np.int64)
    ordered = True
    before = time_ps[0] if time_ps.size else 0
    for i in range(time_ps.size):
        ordered &= time_ps[i] >= before
        before = time_ps[i]
        turns = time_ps[i] / period_ps
        counts[np.uint64((turns - math.floor(turns)) * PHASES) & np.uint64(PHASES - 1)] += 1
    return counts, ordered


@njit(
    INT(INTS_IN, BITS_IN, types.float64, types.float64, INT, INTS_OUT, BITS_OUT, BITS_OUT),
    cache=True,
    nogil=True,
)
def events(time_ps, detector, period_ps, phase, n_pulses, slot, first, seen):  # noqa: PLR0913, PLR0917 (kernel)
    """Join the clicks of each slot to one event; slots outside 0 .. n_pulses - 1 are left out.

    time_ps   int64[n], ascending
    detector  uint8[n], 0 to 7
    phase     of a period, where in its slot a pulse is on average
    slot      int64[n], set to the distinct slots, ascending
    first     uint8[n], set to the detector of the first click in each
    seen      uint8[n], set to the detectors that clicked, detector k in bit k

    Returns how many events there are; the arrays hold nothing beyond them.
    """
    last, n_events = np.int64(-1), np.int64(0)
    for i in range(time_ps.size):
        at = np.int64(math.floor(time_ps[i] / period_ps - phase + 0.5))
        if at < 0 or at >= n_pulses:
            continue
        if at != last:
            slot[n_events], first[n_events], seen[n_events] = at, detector[i], 0
            last = at
            n_events += 1
        seen[n_events - 1] |= np.uint8(1 << detector[i])
    return n_events
