"""The times of one end's events as a message body: gaps by a Golomb-Rice code.

Each gap is a quotient by 2^k, told in unary, and a remainder of k bits; for the random times of a
steady light that takes about half a bit more than their entropy. Times are rounded to the
resolution that both ends have agreed on.

| header | quotients, a run of zeros and a one each | remainders, k planes of bits |

Source: Rice and Plaunt, IEEE Trans. Commun. 19, 889 (1971).
"""

from math import log, log2
from struct import Struct

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ChannelError, LinkError

EVENTS_MAX = 1 << 23  # of a block: decoding takes some 20 bytes each
QUOTIENTS_MAX = 4  # bits for each gap: `encoded` needs 3.1
PS_MAX = 1 << 60  # 13 days: differences of two times then fit into 64 bits
HEADER = Struct("<qIIB")  # first time, number of events, bits of quotients, k

Times = npt.NDArray[np.int64]


def encoded(time_ps: Times, resolution_ps: int) -> bytes:
    """The body for ``time_ps``, int64[n]: rising by more than the resolution; at most `EVENTS_MAX`.

    Raises LinkError for more.
    """
    if time_ps.size > EVENTS_MAX:
        raise LinkError(f"{time_ps.size} events in a block, at most {EVENTS_MAX} are allowed")
    if not time_ps.size:
        return HEADER.pack(0, 0, 0, 0)
    time = (time_ps + resolution_ps // 2) // resolution_ps
    gap = np.diff(time)
    mean = float(gap.mean()) if gap.size else 1.0
    shift = max(0, round(log2(mean * log(2))))
    ends = np.cumsum((gap >> shift) + 1) - 1
    ones = np.zeros(int(ends[-1]) + 1 if gap.size else 0, np.uint8)
    ones[ends] = 1
    planes = [(gap >> bit).astype(np.uint8) & np.uint8(1) for bit in range(shift)]
    header = HEADER.pack(int(time[0]), time.size, ones.size, shift)
    return header + b"".join(np.packbits(plane).tobytes() for plane in (ones, *planes))


def decoded(body: bytes, resolution_ps: int, gap_min_ps: int) -> Times:
    """int64[n]: the times in ps, rising by at least ``gap_min_ps`` but for the rounding.

    Raises ChannelError for anything that `encoded` does not make.
    """
    if len(body) < HEADER.size:
        raise ChannelError(f"event times: {len(body)} bytes, at least {HEADER.size}")
    first, n, n_bits, shift = HEADER.unpack_from(body)
    n_gaps = max(0, n - 1)
    span = (n_bits + n) << shift  # in units; no gaps of this header add up to more
    if n > EVENTS_MAX or not n_gaps <= n_bits <= QUOTIENTS_MAX * n_gaps:
        raise ChannelError(f"event times: {n} events with {n_bits} bits of quotients")
    if (abs(first) + span) * resolution_ps > PS_MAX:
        raise ChannelError(f"event times: {n} events from {first} with {shift} low bits")
    quotients, plane = (n_bits + 7) // 8, (n_gaps + 7) // 8
    if len(body) != HEADER.size + quotients + shift * plane:
        raise ChannelError(f"event times: {len(body)} bytes for {n} events")
    ends = _ones(body[HEADER.size : HEADER.size + quotients], n_bits)
    if ends.size != n_gaps or (n_gaps and ends[-1] != n_bits - 1):
        raise ChannelError(f"event times: {ends.size} gaps for {n} events")
    gap = np.diff(ends, prepend=-1) - 1
    for bit in reversed(range(shift)):
        start = HEADER.size + quotients + bit * plane
        low = np.unpackbits(np.frombuffer(body, np.uint8, plane, start))
        if low[n_gaps:].any():
            raise ChannelError("event times: a bit is set beyond the last")
        gap = gap << 1 | low[:n_gaps]
    if n_gaps and gap.min() * resolution_ps <= gap_min_ps - resolution_ps:
        raise ChannelError(f"event times: two are {gap.min() * resolution_ps} ps apart")
    time = np.cumsum(np.concatenate(([first], gap))) if n else np.zeros(0, np.int64)
    return np.asarray(time * resolution_ps, np.int64)


def _ones(packed: bytes, n_bits: int) -> Times:
    """The places of the ones among the first ``n_bits``; ChannelError for one beyond."""
    ones = np.flatnonzero(np.unpackbits(np.frombuffer(packed, np.uint8)))
    if ones.size and ones[-1] >= n_bits:
        raise ChannelError("event times: a bit is set beyond the last")
    return np.asarray(ones, np.int64)
