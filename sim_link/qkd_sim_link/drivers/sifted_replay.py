"""A file of recorded sifted bits as one end's device of pairs: epoch k of the file is block k.

The ends need not know of each other: both replay by number, and say nothing. A recording is over
with its last epoch: bits that made a key are not given for another block.
"""

from collections.abc import Generator
from dataclasses import dataclass, fields
from math import inf
from pathlib import Path
from threading import Lock
from time import monotonic

from qkd_core.errors import ConfigError, LinkDown, QkdError
from qkd_core.ports import ClassicalChannel
from qkd_core.ports.link import Outcomes
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.drivers.contract import Health
from qkd_sim_link.drivers.credits import Credits
from qkd_sim_link.formats.sifted import SiftedEpoch, SiftedFile


@dataclass(slots=True)
class Cursor:
    """Where the reading of the file stands."""

    file: SiftedFile
    epochs: Generator[SiftedEpoch, None, None]
    number: int = 0


@dataclass(frozen=True, slots=True)
class Armed:
    """A block, its bits, and when they are due."""

    block_id: BlockId
    epoch: SiftedEpoch
    due: float


class SiftedReplay:
    """One end's recording as a driver (`SiftedDevice`). Nothing is read before it is used."""

    provenance = Provenance.REPLAYED

    def __init__(self, path: Path, side: Side, speed: float = 1.0) -> None:
        """``speed``: link seconds per second; 0: as fast as it is asked. Raises ConfigError."""
        if not 0 <= speed < inf:
            raise ConfigError(f"speed {speed:g}: 0 or more")
        self._path, self._side, self._speed = path, side, speed
        self._turns = Credits()  # for its waits alone: bits are given when they are asked for
        self._holding = Lock()
        self._cursor: Cursor | None = None
        self._armed: Armed | None = None
        self._counts = 0, 0

    def arm(self, block_id: BlockId, settings: PairSettings) -> None:
        """Raises LinkDown, also when the file is of other settings or of the other side."""
        self.stop()
        try:
            epoch = self._found(int(block_id), settings)
        except LinkDown:
            raise
        except QkdError as error:
            self._rewind()
            raise LinkDown(str(error)) from error
        due = monotonic() + (settings.link_s / self._speed if self._speed else 0.0)
        self._turns.renew()
        with self._holding:
            self._armed = Armed(block_id, epoch, due)
        n_key, n_test = self._counts
        self._counts = n_key + epoch.outcomes.n_key, n_test + epoch.outcomes.n_test

    def outcomes(self, block_id: BlockId, channel: ClassicalChannel) -> Outcomes:
        """As the port has it; the same when asked again. Nothing is said on the channel."""
        turn, armed = self._turns.epoch, self._armed
        if armed is None or armed.block_id != block_id:
            raise LinkDown(f"block {block_id} is not armed at this end")
        self._turns.wait(turn, armed.due - monotonic())
        with self._holding:  # not while they are wiped
            if self._armed is not armed:
                raise LinkDown(f"block {block_id} was given up")
            kept = armed.epoch.outcomes
            return Outcomes(kept.n_key, kept.n_test, kept.key.copy(), kept.test.copy())

    def health(self) -> Health:
        """Of the epochs armed so far. Raises LinkDown when the file cannot be opened any more."""
        try:
            SiftedFile(self._path)
        except QkdError as error:
            raise LinkDown(str(error)) from error
        return Health(
            at_s=monotonic(), counts=self._counts, missed=0, fill=0.0, clock_state="unknown"
        )

    def stop(self) -> None:
        self._turns.stop()
        with self._holding:
            if self._armed is not None:
                self._armed.epoch.wipe()
            self._armed = None

    def close(self) -> None:
        self.stop()
        self._rewind()
        self._counts = 0, 0

    def _rewind(self) -> None:
        """The file is opened anew when it is next needed."""
        if self._cursor is not None:
            self._cursor.epochs.close()
        self._cursor = None

    def _found(self, number: int, settings: PairSettings) -> SiftedEpoch:
        """Raises LinkDown, TagsUnreadable."""
        cursor = self._cursor
        if cursor is None or cursor.number >= number:
            self._rewind()
            file = SiftedFile(self._path)
            cursor = self._cursor = Cursor(file, file.epochs())
        self._require(cursor.file, settings)
        for epoch in cursor.epochs:
            cursor.number = epoch.number
            if epoch.number == number:
                return epoch
            epoch.wipe()
        raise LinkDown(
            f"{self._path}: no epoch {number}, the last one of the recording is {cursor.number}"
        )

    def _require(self, file: SiftedFile, settings: PairSettings) -> None:
        stream = file.stream
        if stream.side is not self._side:  # one end's bits at both ends would have no error at all
            raise LinkDown(
                f"{self._path}: the bits of side {stream.side}, this is side {self._side}"
            )
        for each in fields(settings):
            recorded, armed = getattr(stream.settings, each.name), getattr(settings, each.name)
            if recorded != armed:
                raise LinkDown(
                    f"{self._path}: recorded with {each.name} = {recorded:g}, armed with {armed:g}"
                )
