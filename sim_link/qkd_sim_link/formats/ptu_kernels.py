# mypy: disallow-untyped-defs=False, disallow-untyped-decorators=False, disallow-untyped-calls=False
"""The 32-bit records of PicoQuant's devices to times and channels, and back.

A record holds a *coarse* counter that begins anew after a period: the time in T2, the number of
sync events in T3, where a *fine* time since the last sync stands beside it. Records of overflow
say that the counter began anew. Source: PicoQuant, "TTTR Record Format"
(github.com/PicoQuant/PicoQuant-Time-Tagged-File-Format-Demos).

Every kernel of decoding returns int64[3]: the tags found, the coarse time at which the counter
last began anew, and the index of the first record that no device writes, -1 for none.
"""

import numpy as np
from numba import njit, types

from qkd_sim_link.formats.recording import MARKER, TIME_MAX

I64, U64 = types.int64, types.uint64
RECORDS_IN = types.Array(types.uint32, 1, "C", readonly=True)
I64_IN = types.Array(types.int64, 1, "C", readonly=True)
U8_IN = types.Array(types.uint8, 1, "C", readonly=True)
U16_IN = types.Array(types.uint16, 1, "C", readonly=True)
I64_OUT, U8_OUT, U16_OUT = types.int64[::1], types.uint8[::1], types.uint16[::1]
DECODED = types.UniTuple(types.int64, 3)

_0, _1, _4, _10, _15, _16, _25, _28, _63, _64, _80, _127 = (
    np.uint64(n) for n in (0, 1, 4, 10, 15, 16, 25, 28, 63, 64, 80, 127)
)
_10_BITS, _12_BITS, _15_BITS, _16_BITS, _25_BITS, _28_BITS = (
    np.uint64((1 << n) - 1) for n in (10, 12, 15, 16, 25, 28)
)
_MARKER = np.uint8(MARKER)


@njit(DECODED(RECORDS_IN, I64, I64, U64, I64_OUT, U8_OUT, U8_OUT), cache=True, nogil=True)
def decode_t2(records, base, period, counted, time, channel, flags):  # noqa: PLR0913, PLR0917
    """Times of HydraHarp, MultiHarp, TimeHarp 260 and PicoHarp 330: special 1, code 6, time 25.

    records          uint32[n]
    base             where the counter last began anew before the first record, ticks
    period           of the counter, ticks
    counted          the bits of an overflow that say how many there were; none is one
    time             int64[n], out: ticks
    channel, flags   uint8[n], out: 0 for the sync input, k for input k; ``flags`` comes as zeros

    No branch depends on whether a record is an overflow: slow light makes those come at random.
    """
    n = _0
    for i in range(records.size):
        record = np.uint64(records[i])
        code, ticks = record >> _25, record & _25_BITS
        time[n] = base + np.int64(ticks)
        channel[n] = code + _1
        overflow = np.uint64(code == _127)
        n += _1 - overflow
        told = ticks & counted
        base += np.int64((told + np.uint64(told == _0)) * overflow) * period
        if code - _64 < _63:
            if code == _64:
                channel[n - _1] = 0
            elif code < _80:
                channel[n - _1] = code - _64
                flags[n - _1] = _MARKER
            else:
                return np.int64(n - _1), base, np.int64(i)
        if base > TIME_MAX:
            return np.int64(n), base, np.int64(i)
    return np.int64(n), base, np.int64(-1)


@njit(DECODED(RECORDS_IN, I64, U64, I64_OUT, U8_OUT, U8_OUT, U16_OUT), cache=True, nogil=True)
def decode_t3(records, base, counted, sync, channel, flags, fine):  # noqa: PLR0913, PLR0917
    """As `decode_t2`, in T3: special 1, code 6, fine time 15, number of the sync event 10."""
    n = _0
    for i in range(records.size):
        record = np.uint64(records[i])
        code, number = record >> _25, record & _10_BITS
        sync[n] = base + np.int64(number)
        channel[n] = code + _1
        fine[n] = record >> _10 & _15_BITS
        overflow = np.uint64(code == _127)
        n += _1 - overflow
        told = number & counted
        base += np.int64((told + np.uint64(told == _0)) * overflow) << 10
        if code - _64 < _63:
            if code == _64 or code >= _80:
                return np.int64(n - _1), base, np.int64(i)
            channel[n - _1] = code - _64
            flags[n - _1] = _MARKER
            fine[n - _1] = 0
        if base > TIME_MAX:
            return np.int64(n), base, np.int64(i)
    return np.int64(n), base, np.int64(-1)


@njit(DECODED(RECORDS_IN, I64, I64, I64_OUT, U8_OUT, U8_OUT), cache=True, nogil=True)
def decode_pico_t2(records, base, period, time, channel, flags):  # noqa: PLR0913, PLR0917
    """As `decode_t2`, of PicoHarp 300: channel 4, time 28; 15 is special, its low bits markers."""
    n = 0
    for i in range(records.size):
        record = np.uint64(records[i])
        code, ticks = record >> _28, record & _28_BITS
        bits = ticks & _15
        if code == _15 and bits == _0:
            base += period
            if base > TIME_MAX:
                return np.int64(n), base, np.int64(i)
            continue
        if code == _15:  # the bits stand in place of the time's last ones
            ticks, code = ticks - bits, bits
            flags[n] = _MARKER
        elif code > _4:
            return np.int64(n), base, np.int64(i)
        time[n], channel[n] = base + np.int64(ticks), code
        n += 1
    return np.int64(n), base, np.int64(-1)


@njit(DECODED(RECORDS_IN, I64, I64_OUT, U8_OUT, U8_OUT, U16_OUT), cache=True, nogil=True)
def decode_pico_t3(records, base, sync, channel, flags, fine):  # noqa: PLR0913, PLR0917
    """As `decode_t3`, of PicoHarp 300: channel 4, fine time 12, number of the sync event 16."""
    n = 0
    for i in range(records.size):
        record = np.uint64(records[i])
        code, since, number = record >> _28, record >> _16 & _12_BITS, record & _16_BITS
        if code == _15 and since == _0:
            base += 1 << 16
            if base > TIME_MAX:
                return np.int64(n), base, np.int64(i)
            continue
        if code == _15:
            if since > _15:
                return np.int64(n), base, np.int64(i)
            code, since = since, _0
            flags[n] = _MARKER
        elif code == _0 or code > _4:
            return np.int64(n), base, np.int64(i)
        sync[n], channel[n], fine[n] = base + np.int64(number), code, since
        n += 1
    return np.int64(n), base, np.int64(-1)


@njit(types.void(I64_OUT, U16_IN, I64, types.float64), cache=True, nogil=True)
def to_fine_ticks(time, fine, whole, part):
    """Replace numbers of sync events by times in fine ticks.

    time         int64[n], in and out
    fine         uint16[n], ticks since the sync event
    whole, part  the sync period in fine ticks: an integer, and what is left of it, in [0, 1)
    """
    for i in range(time.size):
        sync = time[i]
        time[i] = sync * whole + np.int64(sync * part) + fine[i]


@njit(
    I64(I64_IN, I64, I64, I64, I64_IN, types.uint32[::1]),
    cache=True,
    nogil=True,
)
def encode(coarse, base, period, most, words, records):  # noqa: PLR0913, PLR0917
    """Fill ``records`` with ``words`` and the overflows between them; returns how many in all.

    coarse   int64[n], not falling below the last overflow before it
    base     where the counter last began anew before the first event
    period   of the counter
    most     overflows that one record can count; the record of an overflow is words[n], and
             how many it counts is added to it when ``most`` is not 0: then it counts one
    words    int64[n + 1], the record of each event with no coarse time in it
    records  uint32[m], out; m at least n and the records of overflows that they need

    Returns -1 when an event lies before the last overflow.
    """
    n = 0
    for i in range(coarse.size):
        if coarse[i] < base:
            return -1
        left = (coarse[i] - base) // period
        while left > 0:
            told = min(left, most) if most else 1
            records[n] = np.uint32(words[coarse.size] + (told if most else 0))
            base += told * period
            left -= told
            n += 1
        records[n] = np.uint32(words[i] | (coarse[i] - base))
        n += 1
    return n
