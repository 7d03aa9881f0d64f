"""What health tests look for in a string of bytes: counts, repetitions, proportions."""

import numpy as np
from numba import njit, types

from qkd_core.kernels.signatures import BITS_IN, INT, INTS_OUT

TABLES_OUT = types.uint32[:, ::1]


@njit(INT(BITS_IN, TABLES_OUT), cache=True, nogil=True)
def count_bytes(data, tables):
    """Add how often each value occurs to ``tables``, whose sum over the rows is the count.

    data    uint8[n]
    tables  uint32[4, 256]: in one row alone, equal neighbours would wait for each other

    Returns how many times the highest bit of a byte differs from the lowest of the next one.
    """
    words = data[: data.size & ~7].view(np.uint64)
    one, byte = np.uint32(1), np.uint64(255)
    for word in words:
        tables[0, word & byte] += one
        tables[1, word >> np.uint64(8) & byte] += one
        tables[2, word >> np.uint64(16) & byte] += one
        tables[3, word >> np.uint64(24) & byte] += one
        tables[0, word >> np.uint64(32) & byte] += one
        tables[1, word >> np.uint64(40) & byte] += one
        tables[2, word >> np.uint64(48) & byte] += one
        tables[3, word >> np.uint64(56)] += one
    for i in range(8 * words.size, data.size):
        tables[0, data[i]] += one
    changes = 0
    for i in range(data.size - 1):
        changes += (data[i] >> np.uint8(7)) ^ (data[i + 1] & np.uint8(1))
    return changes


@njit(INT(BITS_IN, INT, INTS_OUT), cache=True, nogil=True)
def longest_run(data, least, state):
    """The length of the longest run of equal bytes; exact when it is ``least`` or more.

    data    uint8[n]
    least   2 or more: only one pair of neighbours in ``least`` - 1 is looked at
    state   int64[2]: the last byte before ``data``, or -1, and the run that it ends; then the same
            of ``data``

    Source: NIST SP 800-90B, 4.4.1, repetition count test.
    """
    n = data.size
    head = 0
    while head < n and data[head] == state[0]:
        head += 1
    longest = state[1] + head
    if head == n:
        state[1] = longest
        return longest
    step = least - 1
    i = head + step
    while i < n:
        if data[i] != data[i - 1]:
            i += step
            continue
        first, end = i - 1, i + 1
        while first > head and data[first - 1] == data[i]:
            first -= 1
        while end < n and data[end] == data[i]:
            end += 1
        longest = max(longest, end - first)
        i += step * ((end - i + step - 1) // step)
    first = n - 1
    while first > head and data[first - 1] == data[n - 1]:
        first -= 1
    state[0] = data[n - 1]
    state[1] = n - first
    return longest


@njit(INT(BITS_IN, INT, INTS_OUT), cache=True, nogil=True)
def most_in_window(data, window, state):
    """How often the first byte of a window occurs in it, itself included: the largest number.

    data    uint8[n]
    window  bytes in a window; the windows follow each other
    state   int64[3], all 0 at first: of the window that is not full, its first byte, how many of it
            were seen, and the first one's occurrences

    Source: NIST SP 800-90B, 4.4.2, adaptive proportion test.
    """
    n = data.size
    most = 0
    i = 0
    while i < n:
        if state[1] == 0:
            state[0] = data[i]
            state[2] = 0
        part = data[i : min(n, i + window - state[1])]
        first = np.uint8(state[0])
        for j in range(part.size):
            state[2] += part[j] == first
        state[1] += part.size
        most = max(most, state[2])
        if state[1] == window:
            state[1] = 0
        i += part.size
    return most
