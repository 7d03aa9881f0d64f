"""Whole epochs of tags in the order of time, from a device that gives them nearly in order.

A tag is *late* when an earlier one of the stream is more than the window ahead of it. Single tags
are never left out, for their loss may depend on settings: an epoch with a late tag is dropped
whole and says so, and so is one with more tags than there is room for. An epoch is complete when
nothing of it may come any more but late tags; when one comes even then, the stream is at its end.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkError

EPOCHS_MAX = 1 << 16  # that a step from one tag to the next may pass over

PS_MAX = 1 << 61  # differences of two times then fit into 64 bits

Times = npt.NDArray[np.int64]
Channels = npt.NDArray[np.uint8] | npt.NDArray[np.int16]
Batch = tuple[Times, Channels]
"""Tags as the device gives them: int64[n] in ps, and the channel of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """How far out of order tags may come, and what makes an epoch.

    window_ps  at least 100 ns for devices known to us
    epoch_ps   epoch k holds the times from k epoch_ps, that included, to the next
    tags_max   of an epoch
    """

    window_ps: int
    epoch_ps: int
    tags_max: int

    def __post_init__(self) -> None:
        if self.window_ps < 0 or self.epoch_ps < 1 or self.tags_max < 1:
            raise ValueError(
                f"window {self.window_ps} ps, epoch {self.epoch_ps} ps, {self.tags_max} tags:"
                " at least 0, 1 and 1"
            )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Epoch:
    """All tags of one epoch in the order of time, equal times in that of arrival; or none of them.

    missed     0; of a dropped epoch, which is empty here, how many tags came
    watermark  no later epoch has an earlier time
    """

    number: int
    time_ps: Times = field(repr=False)
    channel: Channels = field(repr=False)
    missed: int
    watermark: int


def epochs(batches: Iterable[Batch], ordering: Ordering) -> Iterator[Epoch]:
    """Every epoch from that of the earliest tag to that of the last, empty ones as well.

    The last one ends with the stream and may be cut short. Where the device's batches begin and
    end makes no difference. Raises LinkError when a tag comes after its epoch is complete, when
    time leaps over `EPOCHS_MAX` epochs, and for times beyond `PS_MAX`.
    """
    opened: _Open | None = None
    for time_ps, channel in batches:
        if time_ps.shape != channel.shape or time_ps.ndim != 1:
            raise LinkError(f"{time_ps.shape} time tags, {channel.shape} channels: not one each")
        if time_ps.size:
            opened = opened or _Open(ordering, int(time_ps[0]))
            yield from opened.taken(time_ps, channel)
    if opened:
        yield from opened.completed(opened.newest // ordering.epoch_ps + 1)


class _Open:
    """The epochs that are not complete, and what has come of them."""

    def __init__(self, ordering: Ordering, first_ps: int) -> None:
        self.newest = first_ps
        self._ordering = ordering
        self._begun: int | None = None  # the epoch to give out next; none was yet
        self._held: list[Batch] = []
        self._n_tags: Counter[int] = Counter()
        self._dropped: set[int] = set()

    def taken(self, time_ps: Times, channel: Channels) -> Iterator[Epoch]:
        """Take a batch; give out what is complete then."""
        window, epoch_ps = self._ordering.window_ps, self._ordering.epoch_ps
        ahead = np.maximum.accumulate(np.concatenate(([self.newest], time_ps)))
        number = time_ps // epoch_ps
        self._require_in_time(time_ps, ahead)
        full = self._ordering.tags_max
        begins = np.concatenate(([0], np.flatnonzero(np.diff(number)) + 1, [number.size]))
        for begin, n_run in zip(begins[:-1].tolist(), np.diff(begins).tolist(), strict=True):
            self._n_tags[int(number[begin])] += n_run
        late = time_ps < ahead[:-1] - window
        dropped = set(np.unique(number[late]).tolist())
        dropped |= {epoch for epoch, n in self._n_tags.items() if n > full}
        self._held.append((time_ps, channel))
        self._drop(dropped)
        self.newest = int(ahead[-1])
        yield from self.completed((self.newest - window) // epoch_ps)

    def completed(self, until: int) -> Iterator[Epoch]:
        """The epochs before ``until``."""
        earliest = min(self._n_tags, default=until) if self._begun is None else self._begun
        if until <= earliest:
            return
        time_ps, channel = (np.concatenate(parts) for parts in zip(*self._held, strict=True))
        order = np.argsort(time_ps, kind="stable")
        time_ps, channel = time_ps[order], channel[order]
        rest = int(np.searchsorted(time_ps, until * self._ordering.epoch_ps))
        self._held = [(time_ps[rest:], channel[rest:])]
        self._begun = until
        place = 0
        for number in range(earliest, until):
            end_ps = (number + 1) * self._ordering.epoch_ps
            inside = slice(place, int(np.searchsorted(time_ps, end_ps)))
            place = inside.stop
            n_tags = self._n_tags.pop(number, 0)
            dropped = number in self._dropped
            self._dropped.discard(number)
            yield Epoch(
                number=number,
                time_ps=time_ps[inside],
                channel=channel[inside],
                missed=n_tags if dropped else 0,
                watermark=end_ps,
            )

    def _require_in_time(self, time_ps: Times, ahead: Times) -> None:
        """LinkError for a tag of an epoch that was complete before it, or for a leap of time."""
        epoch_ps = self._ordering.epoch_ps
        if max(int(time_ps.max()), -int(time_ps.min())) > PS_MAX:
            raise LinkError(f"times from {time_ps.min()} to {time_ps.max()} ps: at most 2^61")
        complete = (ahead[:-1] - self._ordering.window_ps) // epoch_ps
        after = np.flatnonzero(time_ps // epoch_ps < complete)
        if after.size:
            at = int(after[0])
            raise LinkError(
                f"a tag at {time_ps[at]} ps comes {ahead[at] - time_ps[at]} ps late, after its"
                f" epoch is complete; at most {self._ordering.window_ps} ps are waited for"
            )
        if (leap := int(np.diff(ahead).max())) > EPOCHS_MAX * epoch_ps:
            raise LinkError(f"the time leaps by {leap} ps, at most {EPOCHS_MAX} epochs are allowed")

    def _drop(self, numbers: set[int]) -> None:
        """Forget the tags of these epochs, and of those that were dropped before."""
        self._dropped |= numbers
        if self._dropped:
            gone = np.array(sorted(self._dropped), np.int64)
            kept = [~np.isin(time_ps // self._ordering.epoch_ps, gone) for time_ps, _ in self._held]
            self._held = [
                (time_ps[keep], channel[keep])
                for (time_ps, channel), keep in zip(self._held, kept, strict=True)
            ]
