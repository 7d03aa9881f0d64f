"""A driver's epochs as the engines take them: all of a block's clicks by detector, or LinkDown."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Self

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkDown
from qkd_core.types.bits import wipe
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance
from qkd_sim_link.drivers.contract import Batch, Settings, TagSource, Verified, settings_digest
from qkd_sim_link.formats.recording import MARKER

CREDIT = 4  # batches that may be on their way
DETECTORS = 4
NO_DETECTOR = np.uint8(255)
PS_MAX = 1 << 60  # as `TagDevice` has it

Columns = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]


class EpochEnd:
    """One end of a link on a source of tags (`BobDevice`, `TagDevice`)."""

    def __init__(self, source: TagSource, channels: Sequence[int] = range(DETECTORS)) -> None:
        """``channels``: the device's channel of detector 0, 1, ... (basis << 1 | bit)."""
        self.source = source
        self._detector = np.full(256, NO_DETECTOR)
        self._detector[list(channels)] = np.arange(len(channels), dtype=np.uint8)
        self._armed: tuple[BlockId, Settings] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the device go; the next call takes it again."""
        self.source.close()

    @property
    def provenance(self) -> Provenance:
        """As the driver says. Raises LinkDown."""
        return self.source.describe().provenance

    def arm(self, block_id: BlockId, settings: Settings) -> None:
        """Be ready for the block. Raises LinkDown."""
        self._armed = None
        self.source.arm(block_id, settings)
        self._armed = block_id, settings

    def detections(self, block_id: BlockId) -> Detections:
        """All clicks of the block in time order, ps; whole or not at all. Raises LinkDown."""
        if self._armed is None or self._armed[0] != block_id:
            raise LinkDown(f"block {block_id} is not armed at this end")
        description = self.source.describe()
        verified = Verified(block_id, settings_digest(self._armed[1]))
        parts: list[Columns] = []
        self.source.credit(CREDIT)
        for batch in self.source.batches():
            verified.take(batch)
            parts.append(self._columns(batch, block_id))
            self.source.credit(1)
        if not parts:
            raise LinkDown(f"block {block_id}: the device gave no batch")
        time, detector = _joined(parts)
        time_ps = whole_ps(time, description.tick)
        return Detections(block_id, time_ps, detector, description.provenance)

    def tags(self, block_id: BlockId) -> Detections:
        """As `detections`, by this end's own clock. Raises LinkDown."""
        found = self.detections(block_id)
        time_ps = found.time_ps
        if time_ps.size and not 0 <= time_ps[0] <= time_ps[-1] < PS_MAX:
            raise LinkDown(f"block {block_id}: times from {time_ps[0]} to {time_ps[-1]} ps")
        return found

    def _columns(self, batch: Batch, block_id: BlockId) -> Columns:
        """The times of a batch in ticks and its detectors; the batch is wiped where it can be."""
        tags = batch.tags
        if tags["flags"].any():
            tags = tags[(tags["flags"] & np.uint8(MARKER)) == 0]
        time, detector = tags["t"].copy(), self._detector.take(tags["det"])
        if np.any(detector == NO_DETECTOR):
            channel = int(tags["det"][np.argmax(detector == NO_DETECTOR)])
            wipe(detector)
            raise LinkDown(f"block {block_id}: a tag of channel {channel}, which is no detector's")
        if batch.tags.flags.c_contiguous:
            wipe(batch.tags.view(np.uint8))  # records are slow to fill
        else:
            wipe(batch.tags)
        return time, detector


def whole_ps(time: npt.NDArray[np.int64], tick: Fraction) -> npt.NDArray[np.int64]:
    """Ticks of ``tick`` ps as whole ps, rounded down: exact, and without an overflow between."""
    if tick == 1:
        return time
    whole, rest = np.divmod(time, tick.denominator)
    found: npt.NDArray[np.int64] = (
        whole * tick.numerator + rest * tick.numerator // tick.denominator
    )
    return found


def _joined(parts: Sequence[Columns]) -> Columns:
    """One epoch in the order of time, equal times in that of arrival."""
    time, detector = parts[0]
    if len(parts) > 1:
        time, detector = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        for _, each in parts:
            wipe(each)
    if np.all(time[1:] >= time[:-1]):
        return time, detector
    order = np.argsort(time, kind="stable")
    ordered = detector[order]
    wipe(detector)
    return time[order], ordered
