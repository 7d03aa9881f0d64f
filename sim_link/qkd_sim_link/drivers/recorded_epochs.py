"""The epochs of a recorded file, by number from 1, with the tags of some of its channels.

A file of ours that was recorded from a driver has epochs, whose numbers are kept. Any other one is
cut by time into epochs of a given length, the first of which begins with its first record; what is
left at its end makes none. Two ends that replay one file, or two that began together, so agree on
what epoch k is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from qkd_core.errors import LinkDown
from qkd_sim_link.drivers.epochs import whole_ps
from qkd_sim_link.formats.native import Tags
from qkd_sim_link.formats.native_reader import NativeFile
from qkd_sim_link.formats.opening import open_tags
from qkd_sim_link.formats.recording import MARKER, TAG, TagFile
from qkd_sim_link.tags.reorder import Batch, Ordering, epochs

REORDER_PS = 1_000_000  # devices known to us stay below 100 ns
TAGS_MAX = 1 << 25  # of an epoch
PS_PER_S = 10**12
CHANNELS = 256


@dataclass(frozen=True, slots=True, eq=False)
class RecordedEpoch:
    """All tags of one epoch in ticks, or none and how many were missed."""

    number: int
    tags: Tags = field(repr=False)
    missed: int
    clock_state: str


class RecordedFile:
    """A file of any format, read epoch by epoch."""

    def __init__(self, path: Path, form: str | None, channels: tuple[int, ...]) -> None:
        """``form`` as `open_tags`. Raises ConfigError, TagsUnreadable."""
        self.file: TagFile = open_tags(path, form)
        self.channels = channels
        self.has_epochs = isinstance(self.file, NativeFile) and _first_epoch(self.file) > 0

    @property
    def tick(self) -> Fraction:
        """Of the epochs' times, ps."""
        return self.file.info.tick if self.has_epochs else Fraction(1)

    @property
    def reorder_ps(self) -> int:
        """How far out of order the tags of an epoch may be."""
        return REORDER_PS if self.has_epochs else 0

    def epochs(self, link_s: float) -> Iterator[RecordedEpoch]:
        """From the first one; ``link_s``: the length of those that are cut by time.

        Raises LinkDown where a file without epochs lost events; LinkError for one that is too far
        out of order; TagsUnreadable for damage.
        """
        if isinstance(self.file, NativeFile) and self.has_epochs:
            yield from self._told(self.file)
        else:
            yield from self._cut(round(link_s * PS_PER_S))

    def _told(self, file: NativeFile) -> Iterator[RecordedEpoch]:
        number, missed, state = 0, 0, "unknown"
        parts: list[Tags] = []
        for header, tags in file.chained():
            if header.epoch != number:
                if number:
                    yield _epoch(number, parts, missed, state)
                number, parts, missed, state = header.epoch, [], 0, header.clock_state
            parts.append(_of_channels(tags, self.channels))
            missed += header.missed
            if header.clock_state == "unlocked":
                state = header.clock_state
        if number:
            yield _epoch(number, parts, missed, state)

    def _cut(self, epoch_ps: int) -> Iterator[RecordedEpoch]:
        ordering = Ordering(window_ps=REORDER_PS, epoch_ps=epoch_ps, tags_max=TAGS_MAX)
        before: RecordedEpoch | None = None
        for epoch in epochs(self._columns(), ordering):
            if before is not None and before.number > 0:
                yield before
            tags = np.zeros(epoch.time_ps.size, TAG)
            tags["t"], tags["det"] = epoch.time_ps, epoch.channel
            before = RecordedEpoch(epoch.number + 1, tags, epoch.missed, "unknown")

    def _columns(self) -> Iterator[Batch]:
        begin: int | None = None
        for batch in self.file.batches():
            if batch.missed:
                raise LinkDown(f"the recording says that {batch.missed} events were missed")
            if not batch.time.size:
                continue
            begin = int(batch.time[0]) if begin is None else begin
            kept = np.isin(batch.channel, self.channels) & (batch.flags & np.uint8(MARKER) == 0)
            time_ps = whole_ps(batch.time[kept] - begin, self.file.info.tick)
            yield time_ps, np.ascontiguousarray(batch.channel[kept])


def _of_channels(tags: Tags, channels: tuple[int, ...]) -> Tags:
    wanted = np.zeros(CHANNELS, np.bool_)
    wanted[list(channels)] = True
    kept = wanted[tags["det"]]
    return tags if kept.all() else tags[kept]


def _first_epoch(file: NativeFile) -> int:
    """0 for a file without epochs."""
    header, _ = next(file.chained(), (None, None))
    return header.epoch if header else 0


def _epoch(number: int, parts: list[Tags], missed: int, state: str) -> RecordedEpoch:
    """Nothing of an epoch that lost anything."""
    tags = np.zeros(0, TAG)
    if not missed:
        tags = np.concatenate([part.view(np.uint8) for part in parts]).view(TAG)
    return RecordedEpoch(number, tags, missed, state)
