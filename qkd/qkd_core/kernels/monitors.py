"""What the monitors count in one pass over the clicks of a block."""

import math

import numpy as np
from numba import njit, types

from qkd_core.kernels.signatures import BITS_IN, INT, INTS_IN, INTS_OUT

DETECTORS = 4


@njit(
    INT(INTS_IN, BITS_IN, types.float64, types.float64, INTS_IN, INTS_OUT), cache=True, nogil=True
)
def census(time_ps, detector, period_ps, phase, left_out, seen):  # noqa: PLR0913, PLR0917 (kernel)
    """Count when in their slots the clicks come, and return how many follow one in their slot.

    time_ps   int64[n], ascending
    detector  uint8[n], 0 to 3
    phase     of a period, where in its slot a pulse is on average, as `alignment.events` takes it
    left_out  int64[m], ascending: slots whose clicks do not count
    seen      int64[4 * parts], added to: clicks of each detector in each part of a slot
    """
    parts = seen.size // DETECTORS
    n_again, last, out = np.int64(0), np.int64(0), 0
    begun = False
    for i in range(time_ps.size):
        turns = time_ps[i] / period_ps - phase + 0.5
        at = np.int64(math.floor(turns))
        while out < left_out.size and left_out[out] < at:
            out += 1
        if out < left_out.size and left_out[out] == at:
            continue
        # the difference may be rounded up to 1
        part = min(np.int64((turns - math.floor(turns)) * parts), parts - 1)
        seen[detector[i] * parts + part] += 1
        n_again += begun and at == last
        begun, last = True, at
    return n_again


@njit(INT(INTS_IN, BITS_IN, INT, INT, INTS_OUT), cache=True, nogil=True)
def event_census(time_ps, detector, window_ps, hold_off_ps, begun):
    """Count the events of several detectors; events are those of `coincidence.form_events`.

    time_ps   int64[n], ascending
    detector  uint8[n], 0 to 3
    begun     int64[5], set to the events that begin with each detector, and to the time in ps in
              which one could begin

    Returns how many events have clicks of more than one detector.
    """
    begun[:] = 0
    n_several, n = np.int64(0), 0
    begins, first, several = np.int64(0), np.uint8(0), False
    for i in range(time_ps.size):
        t = time_ps[i]
        if i:
            begun[DETECTORS] += max(t - time_ps[i - 1] - hold_off_ps, 0)
        if n and t - begins <= window_ps:
            if detector[i] != first and not several:
                several = True
                n_several += 1
        elif i and t - time_ps[i - 1] >= hold_off_ps:
            begins, first, several = t, detector[i], False
            begun[first] += 1
            n += 1
    return n_several
