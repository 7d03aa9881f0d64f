"""From clicks to events, and from the events of two ends to coincidences; by times alone."""

import numpy as np
from numba import njit

from qkd_core.kernels.signatures import BITS_IN, BITS_OUT, INT, INTS_IN, INTS_OUT


@njit(INT(INTS_IN, BITS_IN, INT, INT, INTS_OUT, BITS_OUT), cache=True, nogil=True)
def form_events(time_ps, detector, window_ps, hold_off_ps, event_ps, seen):  # noqa: PLR0913, PLR0917 (kernel)
    """Make events of one end's clicks; returns how many, or -1 when times are not in order.

    An event begins with a click that has none before it for ``hold_off_ps``; the clicks of the
    next ``window_ps`` belong to it. All others are left out, and they too put off the next event.

    time_ps   int64[n], rising
    detector  uint8[n], below 8
    event_ps  int64[n], set to the times of the events' first clicks
    seen      uint8[n], set to bit d for each detector d that clicked in the event
    """
    n = 0
    for i in range(time_ps.size):
        t = time_ps[i]
        if i and t < time_ps[i - 1]:
            return -1
        mask = np.uint8(1 << detector[i])
        if n and t - event_ps[n - 1] <= window_ps:
            seen[n - 1] |= mask
        elif i and t - time_ps[i - 1] >= hold_off_ps:  # before the first one nobody looked
            event_ps[n], seen[n] = t, mask
            n += 1
    return n


@njit(INT(INTS_IN, INTS_IN, INT, INTS_OUT, INTS_OUT), cache=True, nogil=True)
def coincide(a, b, reach_ps, in_a, in_b):
    """Pair the events of two ends that are at most ``reach_ps`` apart; returns how many pairs.

    In the order of time, each event of ``a`` gets the first one of ``b`` that is free; each event
    is in one pair at most.

    a, b        int64[..], rising, by one clock
    in_a, in_b  int64[min of both], set to the places of the pairs' events
    """
    n = j = 0
    for i in range(a.size):
        while j < b.size and b[j] < a[i] - reach_ps:
            j += 1
        if j == b.size:
            break
        if b[j] <= a[i] + reach_ps:
            in_a[n], in_b[n] = i, j
            n += 1
            j += 1
    return n
