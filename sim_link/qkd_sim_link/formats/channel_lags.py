"""The lags between two channels of a file, counted while it is read."""

from collections.abc import Callable
from fractions import Fraction
from math import ceil

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkError
from qkd_core.kernels.correlation import count_lags
from qkd_sim_link.formats.recording import MARKER, TIME_MAX, TagBatch, TagFile
from qkd_sim_link.formats.survey import Survey
from qkd_sim_link.tags.histogram import BINS_MAX, Lags

Times = npt.NDArray[np.int64]
NONE: Times = np.zeros(0, np.int64)
HELD_MAX = 1 << 25  # events that wait for their partners
PAIRS_MAX = 1 << 34  # to count, some ten seconds


def file_lags(
    file: TagFile,
    found: Survey,
    channels: tuple[int, int],
    bins: tuple[int, int],
    progress: Callable[[int], None] = lambda _: None,
) -> Lags:
    """As `histogram.lags`, of two channels of ``file``, with bounded memory; times to whole ps.

    found     the survey of the same file, for its channels and for how far it is out of order
    channels  the first and the second channel
    bins      width of a bin and the largest lag, ps
    Raises LinkError for channels or bins that cannot be, and for tags so far out of order or so
    close that they ask for too much memory or time; TagsUnreadable for damage.
    """
    for channel in channels:
        if channel not in found.channels:
            known = ", ".join(str(each) for each in found.channels)
            raise LinkError(f"channel {channel} has no tags, the file has channels {known}")
    if channels[0] == channels[1]:
        raise LinkError(f"channels {channels[0]},{channels[1]}: name two that differ")
    counting = _Counting(found, *bins)
    n_records = 0
    for batch in file.batches():
        counting.take(*(_times(batch, channel) for channel in channels))
        n_records += batch.n_records
        progress(n_records)
    n_a, n_b = (found.channels[channel].count for channel in channels)
    return counting.lags(n_a, n_b)


def to_whole_ps(time: Times, zero: int, tick: Fraction) -> Times:
    """Times since ``zero`` in ps, rounded; int64[n] in ticks of ``tick`` ps."""
    since, whole = time - zero, int(tick)
    part = float(tick - whole)
    rest: Times = np.floor(since * part + 0.5).astype(np.int64)
    return since * whole + rest


class _Counting:
    """Counts, and the events whose partners may still come."""

    def __init__(self, found: Survey, bin_ps: int, reach_ps: int) -> None:
        half = -(-reach_ps // bin_ps) if bin_ps > 0 else 0
        if not 0 < 2 * half <= BINS_MAX:
            raise LinkError(
                f"bins of {bin_ps} ps up to {reach_ps} ps: both above 0, at most {BINS_MAX:,} bins"
            )
        self._zero, last = found.first or 0, found.last or 0
        if (last - self._zero) * found.tick > TIME_MAX:
            raise LinkError(f"{found.duration_s:g} s of tags are more than 2^62 ps can hold")
        self._tick = found.tick
        self._span = int(to_whole_ps(np.array([last]), self._zero, found.tick)[0])
        self._late = ceil(found.latest * found.tick) + 1  # rounding included
        self._bin_ps, self._reach = bin_ps, half * bin_ps
        self._counts = np.zeros(2 * half, np.int64)
        self._top = self._pairs = 0
        self._held = [NONE, NONE]

    def take(self, *times: Times) -> None:
        """Add the events of a batch, and count those to which no partner can come any more."""
        new = [to_whole_ps(time, self._zero, self._tick) for time in times]
        self._top = max(self._top, *(int(time.max(initial=0)) for time in new))
        self._held = [
            np.sort(np.concatenate((held, time)), kind="stable")
            for held, time in zip(self._held, new, strict=True)
        ]
        self._count(self._top - self._late - self._reach)
        n_held = sum(part.size for part in self._held)
        if n_held > HELD_MAX:
            raise LinkError(
                f"{n_held:,} events may still have partners, at most {HELD_MAX:,} can wait: the"
                f" file is {self._late} ps out of order, lags reach {self._reach} ps"
            )

    def lags(self, n_a: int, n_b: int) -> Lags:
        """All of the file, once its last batch was taken; events of either channel."""
        self._count(self._top + 1)
        return Lags(self._counts, -self._reach, self._bin_ps, n_a, n_b, self._span)

    def _count(self, until: int) -> None:
        """Count the first channel's events before ``until``, and forget what is done with."""
        a, b = self._held
        n = int(np.searchsorted(a, until))
        ends = np.searchsorted(b, a[:n] + self._reach) - np.searchsorted(b, a[:n] - self._reach)
        self._pairs += int(ends.sum())
        if self._pairs > PAIRS_MAX:
            raise LinkError(
                f"{self._pairs:,} pairs within {self._reach} ps, at most {PAIRS_MAX:,} are counted"
            )
        count_lags(a[:n], b, -self._reach, self._bin_ps, self._counts)
        needed = min(until, self._top) - self._reach
        self._held = [a[n:], b[int(np.searchsorted(b, needed)) :]]


def _times(batch: TagBatch, channel: int) -> Times:
    times: Times = batch.time[(batch.channel == channel) & (batch.flags & MARKER == 0)]
    return times
