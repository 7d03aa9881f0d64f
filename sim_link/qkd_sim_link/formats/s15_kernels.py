# mypy: disallow-untyped-defs=False, disallow-untyped-decorators=False, disallow-untyped-calls=False
"""The 64-bit words of S-Fifteen's time tagging devices, from text and to tags."""

import numpy as np
from numba import njit, types

I64 = types.int64
WORDS_IN = types.Array(types.uint64, 1, "C", readonly=True)
BYTES_IN = types.Array(types.uint8, 1, "C", readonly=True)
EXPANDED = types.UniTuple(I64, 5)

_TIME_SHIFT = np.uint64(10)
_NO_EVENT = np.uint64(0x10)  # a dummy: it only shows that the counter runs on
_ROUND = 1 << 54  # ticks until the counter begins anew
_BACK = 1 << 53  # a step back by more is a new beginning, not disorder
_ALONE = np.zeros(16, np.uint8)  # the channel of a pattern with one detector, else 0
_ALONE[[1, 2, 4, 8]] = 1, 2, 3, 4
_LINE_FEED = 10
_NO_DIGIT = np.uint64(16)
_DIGITS = np.full(256, _NO_DIGIT)
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _DIGITS[np.frombuffer(_digits, np.uint8)] = np.arange(16)


@njit(EXPANDED(WORDS_IN, I64, I64, types.int64[::1], types.uint8[::1]), cache=True, nogil=True)
def expand(words, base, before, time, channel):
    """Fill ``time`` and ``channel`` with one tag for each detector of each word.

    words    uint64[n]: bits 10-63 the time in ticks of 1/256 ns, bit 4 a dummy, bits 0-3 which
             detectors fired
    base     what the rounds of the counter add up to, ticks
    before   time of the last event before the first word, -1 for none
    time     int64[4 n], out: ticks
    channel  uint8[4 n], out: 1 to 4

    Returns int64[5]: the tags found, base and before for the next words, words that are no
    event, and words of more than one detector.
    """
    n = nothing = patterns = 0
    for i in range(words.size):
        pattern = np.int64(words[i] & np.uint64(0xF))
        if words[i] & _NO_EVENT or pattern == 0:
            nothing += 1
            continue
        t = base + np.int64(words[i] >> _TIME_SHIFT)
        if before - t > _BACK:
            base += _ROUND
            t += _ROUND
        before = t
        alone = _ALONE[pattern]
        time[n], channel[n] = t, alone
        if alone:
            n += 1
            continue
        patterns += 1
        for detector in range(4):
            if pattern >> detector & 1:
                time[n], channel[n] = t, detector + 1
                n += 1
    return n, base, before, nothing, patterns


@njit(I64(BYTES_IN, I64, I64, types.uint64[::1]), cache=True, nogil=True)
def read_lines(content, digits, end, numbers):
    """Fill ``numbers`` with one number a line; returns the first line that is none, else -1.

    content      uint8[n (digits + end)], lines of hexadecimal digits and ``end`` more bytes, of
                 which the last one is a line feed
    numbers      uint64[n], out
    """
    for line in range(numbers.size):
        begin = line * (digits + end)
        number = np.uint64(0)
        for place in range(begin, begin + digits):
            digit = _DIGITS[content[place]]
            if digit == _NO_DIGIT:
                return line
            number = number << np.uint64(4) | digit
        if content[begin + digits + end - 1] != _LINE_FEED:
            return line
        numbers[line] = number
    return -1
