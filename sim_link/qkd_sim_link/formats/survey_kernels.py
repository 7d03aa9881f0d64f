# mypy: disallow-untyped-defs=False, disallow-untyped-decorators=False, disallow-untyped-calls=False
"""One pass over tags: counts, shortest intervals, and how far they are out of order."""

from numba import njit, types

from qkd_sim_link.formats.recording import MARKER

CHANNELS = 256
FIRST, TOP, STEPS_BACK, BACK, LATE, BEFORE = range(6)

I64_IN = types.Array(types.int64, 1, "C", readonly=True)
U8_IN = types.Array(types.uint8, 1, "C", readonly=True)
I64_OUT = types.int64[::1]
_NEVER = -(1 << 63)


@njit(types.void(I64_IN, U8_IN, U8_IN, I64_OUT, I64_OUT, I64_OUT, I64_OUT), cache=True, nogil=True)
def survey(time, channel, flags, counts, before, shortest, order):  # noqa: PLR0913, PLR0917
    """Add tags to what is known of the ones before them.

    time            int64[n], ticks
    channel, flags  uint8[n]; a marker counts for itself, and for the order
    counts          int64[257], tags a channel, the last one for markers
    before          int64[256], time of the last tag a channel
    shortest        int64[256], least time from one tag of a channel to the next; -1 for none
    order           int64[6]: earliest and latest time, steps back, the largest of them, the
                    most that a tag lies before the latest one so far, time of the last tag
    """
    first, top, steps_back, back, late, last = (
        order[0],
        order[1],
        order[2],
        order[3],
        order[4],
        order[5],
    )
    for i in range(time.size):
        t = time[i]
        if top == _NEVER:
            first = last = top = t
        if t < last:
            steps_back += 1
            back = max(back, last - t)
        first, top, last = min(first, t), max(top, t), t
        late = max(late, top - t)
        if flags[i] & MARKER:
            counts[256] += 1
            continue
        c = channel[i]
        counts[c] += 1
        if before[c] != _NEVER and t >= before[c]:
            gap = t - before[c]
            if shortest[c] < 0 or gap < shortest[c]:
                shortest[c] = gap
        before[c] = t
    order[0], order[1], order[2], order[3], order[4], order[5] = (
        first,
        top,
        steps_back,
        back,
        late,
        last,
    )
