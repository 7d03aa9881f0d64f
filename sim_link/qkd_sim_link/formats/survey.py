"""What a file of time tags holds: counts, rates, dead times, order, damage."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from qkd_sim_link.formats.recording import TagFile, TagsUnreadable
from qkd_sim_link.formats.survey_kernels import BACK, CHANNELS, FIRST, LATE, STEPS_BACK, TOP, survey

PS_A_SECOND = 10**12
NEVER = -(1 << 63)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSurvey:
    """One channel; ``shortest`` is its least time between two events in turn, ticks."""

    count: int
    shortest: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """One file; times in ticks.

    largest_back  of the steps back in time from one tag to the next
    latest        how far a tag lies before the latest one that precedes it, at most
    damage        the line that says where reading had to end, or nothing
    """

    tick: Fraction
    n_records: int
    channels: dict[int, ChannelSurvey]
    markers: int
    first: int | None
    last: int | None
    overflows: int
    left_out: int
    patterns: int
    missed: int
    steps_back: int
    largest_back: int
    latest: int
    damage: str = ""
    damaged: TagsUnreadable | None = field(default=None, repr=False)

    @property
    def n_tags(self) -> int:
        return sum(channel.count for channel in self.channels.values()) + self.markers

    @property
    def duration_s(self) -> float:
        """From the earliest tag to the latest one."""
        if self.first is None or self.last is None:
            return 0.0
        return float((self.last - self.first) * self.tick / PS_A_SECOND)

    def rate_hz(self, channel: int) -> float | None:
        """Mean rate over the whole file; None for a file of no duration."""
        duration = self.duration_s
        return self.channels[channel].count / duration if duration > 0 else None


def surveyed(file: TagFile, progress: Callable[[int], None] = lambda _: None) -> Survey:
    """Read all of ``file``; ``progress`` is told the records that were read.

    Damage is not raised but told in the survey of what precedes it.
    """
    state = _state()
    totals = dict.fromkeys(("n_records", "overflows", "left_out", "patterns", "missed"), 0)
    damaged = None
    try:
        for batch in file.batches():
            survey(batch.time, batch.channel, batch.flags, *state)
            for name in totals:
                totals[name] += getattr(batch, name)
            progress(totals["n_records"])
    except TagsUnreadable as error:
        damaged = error
    counts, _, shortest, order = state
    return Survey(
        tick=file.info.tick,
        channels={
            channel: ChannelSurvey(
                count=int(counts[channel]),
                shortest=None if shortest[channel] < 0 else int(shortest[channel]),
            )
            for channel in np.flatnonzero(counts[:CHANNELS]).tolist()
        },
        markers=int(counts[CHANNELS]),
        first=None if order[TOP] == NEVER else int(order[FIRST]),
        last=None if order[TOP] == NEVER else int(order[TOP]),
        steps_back=int(order[STEPS_BACK]),
        largest_back=int(order[BACK]),
        latest=int(order[LATE]),
        damage=str(damaged) if damaged else "",
        damaged=damaged,
        **totals,
    )


def _state() -> tuple[npt.NDArray[np.int64], ...]:
    """Counts with the markers last, last times, shortest intervals, and the order."""
    counts = np.zeros(CHANNELS + 1, np.int64)
    before = np.full(CHANNELS, NEVER, np.int64)
    shortest = np.full(CHANNELS, -1, np.int64)
    order = np.zeros(6, np.int64)
    order[TOP] = NEVER
    return counts, before, shortest, order
