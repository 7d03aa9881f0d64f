"""A recorded file as one end's device of pairs: epoch k of the recording is block k.

The ends need not know of each other: both replay by number. A recording has no settings that could
be asked for, so it replays pairs only. Looped, block N + 1 is epoch 1 of N again, at times that go
on: its keys come from the same tags as before, and are for trials alone.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import numpy as np

from qkd_core.errors import ConfigError, LinkDown, QkdError
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import PairSettings
from qkd_sim_link.drivers.contract import (
    Batch,
    Description,
    Health,
    Settings,
    copied,
    dropped,
    made,
    settings_digest,
)
from qkd_sim_link.drivers.credits import Credits
from qkd_sim_link.drivers.recorded_epochs import PS_PER_S, RecordedEpoch, RecordedFile
from qkd_sim_link.formats.native import Chain, Stream, Tags
from qkd_sim_link.formats.recording import TIME_MAX

TAGS_A_BATCH = 1 << 18
LENGTHS = (0.5, 1.001)  # of a recorded epoch, in those of the settings
RATE_MAX_HZ = 1e12  # nothing is lost that the file has
SPEED_MAX = 1e6
LAP_S = 64  # a lap is as many of these as hold the recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What is replayed, and how.

    form      the file's format; None for the one that it shows
    channels  of the file, that count; all others are left out
    speed     link seconds per second; 0: as fast as there is credit
    loop      begin anew at the end
    """

    path: Path
    form: str | None = None
    channels: tuple[int, ...] = (0, 1, 2, 3)
    speed: float = 1.0
    loop: bool = False
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.speed <= SPEED_MAX:
            raise ConfigError(f"speed {self.speed:g}: from 0 to {SPEED_MAX:g}")


@dataclass(slots=True)
class Cursor:
    """Where the reading of the file stands."""

    epochs: Iterator[RecordedEpoch]
    number: int = 0


@dataclass(slots=True)
class Length:
    """What is known of the whole recording: its earliest and latest time, and how many epochs.

    link_s  of the epochs into which a recording without its own is cut
    """

    link_s: float
    first: int = TIME_MAX
    last: int = -TIME_MAX
    n_epochs: int | None = None

    def of(self, epoch: RecordedEpoch) -> None:
        time = epoch.tags["t"]
        if time.size:
            self.first = min(self.first, int(time.min()))
            self.last = max(self.last, int(time.max()))


class ReplaySource:
    """One end's recording as a driver (`TagSource`). Nothing is read before it is used."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._credits = Credits()
        self._recorded: RecordedFile | None = None
        self._cursor: Cursor | None = None
        self._length = Length(0.0)
        self._epoch: tuple[BlockId, RecordedEpoch, Stream] | None = None
        self._armed_at = 0.0
        self._counts = dict.fromkeys(replay.channels, 0)
        self._missed = 0
        self._clock_state = "unknown"

    def describe(self) -> Description:
        recorded = self._opened()
        info = recorded.file.info
        return Description(
            vendor="recorded",
            model=f"{self._replay.path.name}: {info.device or info.format}",
            channels=self._replay.channels,
            tick=recorded.tick,
            reorder_ps=recorded.reorder_ps,
            rate_max_hz=RATE_MAX_HZ,
            provenance=Provenance.REPLAYED,
        )

    def arm(self, block_id: BlockId, settings: Settings) -> None:
        self._credits.renew()
        self._epoch = None
        if not isinstance(settings, PairSettings):
            raise LinkDown("a recording has no settings to ask for: it replays pairs only")
        epoch = self._found(block_id, settings.link_s)
        self._require_length(epoch, settings.link_s)
        for channel in self._counts:
            self._counts[channel] += int(np.count_nonzero(epoch.tags["det"] == channel))
        self._missed += epoch.missed
        self._clock_state = epoch.clock_state
        self._epoch = block_id, epoch, self._stream(settings)
        self._armed_at = monotonic()

    def credit(self, batches: int) -> None:
        self._credits.grant(batches)

    def batches(self) -> Iterator[Batch]:
        if self._epoch is None:
            raise LinkDown("no block is armed")
        (block_id, epoch, stream), turn = self._epoch, self._credits.epoch
        chain, tags = Chain(stream), epoch.tags
        # no batch that comes later has an earlier tag
        ahead = np.minimum.accumulate(tags["t"][::-1])[::-1] if tags.size else tags["t"]
        for start in range(0, max(1, tags.size), TAGS_A_BATCH):
            self._credits.take(turn, self._replay.timeout_s)
            end = min(start + TAGS_A_BATCH, tags.size)
            self._wait_for(tags, end, turn)
            if epoch.missed:
                yield dropped(stream, block_id, epoch.missed)
                return
            watermark = int(ahead[end] if end < tags.size else tags["t"].max(initial=0))
            yield made(chain, block_id, copied(tags[start:end]), watermark, epoch.clock_state)

    def health(self) -> Health:
        """Of the epochs armed so far. Raises LinkDown when the file cannot be opened any more."""
        try:
            with self._replay.path.open("rb"):
                pass
        except OSError as error:
            raise LinkDown(f"{self._replay.path}: {error.strerror}") from error
        return Health(
            at_s=monotonic(),
            counts=tuple(self._counts.values()),
            missed=self._missed,
            fill=0.0,
            clock_state=self._clock_state,
        )

    def stop(self) -> None:
        self._epoch = None
        self._credits.stop()

    def close(self) -> None:
        self.stop()
        self._recorded = self._cursor = None
        self._counts = dict.fromkeys(self._counts, 0)
        self._missed = 0

    def _wait_for(self, tags: Tags, end: int, turn: int) -> None:
        """Until the tags before ``end`` would have come, at the speed that is asked for."""
        if self._replay.speed and end:
            time = tags["t"]
            seconds = (int(time[:end].max()) - int(time.min())) * self._tick_s
            due = self._armed_at + seconds / self._replay.speed
            self._credits.wait(turn, due - monotonic())

    @property
    def _tick_s(self) -> float:
        return float(self._opened().tick / PS_PER_S)

    def _opened(self) -> RecordedFile:
        if self._recorded is None:
            replay = self._replay
            try:
                self._recorded = RecordedFile(replay.path, replay.form, replay.channels)
            except QkdError as error:
                raise LinkDown(str(error)) from error
        return self._recorded

    def _found(self, block_id: BlockId, link_s: float) -> RecordedEpoch:
        """The epoch of a block, at the times of its lap. Raises LinkDown."""
        if self._length.link_s != link_s:
            self._length, self._cursor = Length(link_s), None
        number = int(block_id)
        if self._length.n_epochs is None:
            epoch = self._read(number, link_s)
            if epoch is not None:
                return epoch
        n_epochs = self._length.n_epochs or 0
        if number > n_epochs and not (self._replay.loop and n_epochs):
            raise LinkDown(
                f"{self._replay.path}: no epoch {number}, the last one of the recording is"
                f" {n_epochs}"
            )
        lap, place = divmod(number - 1, n_epochs)
        epoch = self._read(place + 1, link_s)
        if epoch is None:
            raise LinkDown(f"{self._replay.path}: the recording has no epoch {place + 1} any more")
        return _later(epoch, lap * self._lap_ticks) if lap else epoch

    @property
    def _lap_ticks(self) -> int:
        """By which times go on from lap to lap; as at the other end, whose clock runs otherwise."""
        seconds = int((self._length.last - self._length.first) * self._tick_s)
        return round((seconds // LAP_S + 1) * LAP_S * PS_PER_S / self._opened().tick)

    def _read(self, number: int, link_s: float) -> RecordedEpoch | None:
        """Epoch ``number``; None when the recording ends before. Raises LinkDown."""
        cursor = self._cursor
        if cursor is None or cursor.number >= number:
            cursor = self._cursor = Cursor(self._opened().epochs(link_s))
        try:
            for epoch in cursor.epochs:
                cursor.number = epoch.number
                self._length.of(epoch)
                if epoch.number == number:
                    return epoch
                if epoch.number > number:
                    raise LinkDown(f"{self._replay.path}: the recording has no epoch {number}")
        except QkdError as error:
            self._cursor = None
            raise LinkDown(str(error)) from error
        self._length.n_epochs, self._cursor = cursor.number, None
        return None

    def _require_length(self, epoch: RecordedEpoch, link_s: float) -> None:
        time = epoch.tags["t"]
        if time.size:
            seconds = (int(time.max()) - int(time.min())) * self._tick_s
            if not LENGTHS[0] * link_s <= seconds <= LENGTHS[1] * link_s:
                raise LinkDown(
                    f"epoch {epoch.number} was recorded for {seconds:.4g} s, armed are {link_s:g} s"
                )

    def _stream(self, settings: PairSettings) -> Stream:
        told = repr(sorted(asdict(self._replay).items()))
        return Stream(
            link=self._replay.path.name,
            side="",
            driver=f"replay {hashlib.sha256(told.encode()).hexdigest()[:16]}",
            tick=self._opened().tick,
            cfg_digest=settings_digest(settings),
        )


def _later(epoch: RecordedEpoch, ticks: int) -> RecordedEpoch:
    tags = copied(epoch.tags)
    tags["t"] += ticks
    return RecordedEpoch(epoch.number, tags, epoch.missed, epoch.clock_state)
