"""One driver that is tried, and how its epochs are run."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from qkd_core.errors import LinkDown
from qkd_core.ports import AliceDevice
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import DecoySettings
from qkd_sim_link.conformance.verdicts import require
from qkd_sim_link.drivers.contract import Batch, Settings, TagSource
from qkd_sim_link.formats.native import Tags

CREDIT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OneEnd:
    """One driver.

    other       the other end, when the device begins an epoch only with both ends armed
    settings    an epoch with a few thousand tags or more
    patience_s  how long a call may wait for an end that never arms
    """

    source: TagSource
    settings: Settings
    block_ids: Iterator[BlockId]
    patience_s: float
    other: TagSource | AliceDevice | None = None


def armed(end: OneEnd, settings: Settings) -> BlockId:
    """Arm both ends for the next block."""
    block_id = next(end.block_ids)
    end.source.arm(block_id, settings)
    if end.other is not None:
        end.other.arm(block_id, settings)  # type: ignore[arg-type]
    return block_id


def batches_of(end: OneEnd) -> list[Batch]:
    """The armed epoch."""
    end.source.credit(CREDIT)
    found = list(end.source.batches())
    require(bool(found), "an epoch without a batch")
    return found


def epoch_of(end: OneEnd, settings: Settings | None = None) -> list[Batch]:
    """Run the next block."""
    armed(end, settings or end.settings)
    return batches_of(end)


def finish(end: OneEnd) -> None:
    """Take what was armed, whatever comes of it."""
    with suppress(LinkDown):
        batches_of(end)


def joined(batches: list[Batch]) -> Tags:
    return np.concatenate([batch.tags for batch in batches])


def tags_of(end: OneEnd) -> Tags:
    """Those of the next block, of which there must be some."""
    tags = joined(epoch_of(end))
    require(tags.size > 1, f"{tags.size} tags in an epoch")
    return tags


def shorter(settings: Settings, part: int) -> Settings:
    if isinstance(settings, DecoySettings):
        return replace(settings, n_pulses=settings.n_pulses // part)
    return replace(settings, link_s=settings.link_s / part)
