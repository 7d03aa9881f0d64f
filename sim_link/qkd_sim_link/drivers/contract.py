"""What a driver gives of its device: whole epochs of time tags, in batches chained by hash.

An epoch is a block. A driver that lost anything of an epoch gives none of its tags and says so, for
a loss of single tags may depend on what the other end prepared. It owns the reordering: a batch's
watermark promises that no later one has a tag before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from hashlib import sha256
from typing import Protocol

import numpy as np

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import DecoySettings, PairSettings, digest
from qkd_sim_link.formats import native
from qkd_sim_link.formats.native import BatchHeader, Stream, Tags
from qkd_sim_link.formats.native_reader import broken_by_tags
from qkd_sim_link.formats.recording import CLOCK_UNLOCKED, MISSED, OVERFLOW_BEGIN, OVERFLOW_END, TAG

Settings = DecoySettings | PairSettings
LOST = np.uint8(OVERFLOW_BEGIN | OVERFLOW_END | MISSED | CLOCK_UNLOCKED)
CHANNEL_MAX = 255
TICKS = (Fraction(1, 1000), Fraction(10**12))  # ps


class Level(StrEnum):
    """What a device gives. A driver of each level is a port of its own.

    TAGS    time tags: `TagSource`, and for the preparing end `qkd_core.ports.AliceDevice`
    SIFTED  bits of equal bases: `drivers.sifted.SiftedDevice`
    KEYS    finished keys: `qkd_core.ports.KeyDevice`
    """

    TAGS = "tags"
    SIFTED = "sifted"
    KEYS = "keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a driver says of its device.

    channels     numbers that its tags may have
    tick         of its times, ps
    reorder_ps   how far out of order its tags may come at most
    rate_max_hz  of tags that it can take without loss
    """

    vendor: str
    model: str
    channels: tuple[int, ...]
    tick: Fraction
    reorder_ps: int
    rate_max_hz: float
    provenance: Provenance
    level: Level = Level.TAGS

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not self.vendor or not self.model:
            raise ConfigError(f"vendor {self.vendor!r}, model {self.model!r}: both have a name")
        channels = self.channels
        if len(set(channels)) != len(channels) or not all(0 <= c <= CHANNEL_MAX for c in channels):
            raise ConfigError(f"channels {channels}: each once, from 0 to {CHANNEL_MAX}")
        if not TICKS[0] <= self.tick <= TICKS[1]:
            raise ConfigError(f"tick {self.tick} ps: from {TICKS[0]} to {TICKS[1]}")
        if self.reorder_ps < 0 or not self.rate_max_hz > 0:
            raise ConfigError(
                f"reorder_ps {self.reorder_ps}, rate_max_hz {self.rate_max_hz:g}: at least 0, and"
                " positive"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a device is.

    at_s         when, by the driver's monotonic clock
    counts       tags of each channel since it began, of epochs that were made
    missed       events lost since then
    fill         of its buffer, from 0 to 1
    clock_state  one of `native.CLOCK_STATES`
    """

    at_s: float
    counts: tuple[int, ...]
    missed: int
    fill: float
    clock_state: str
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Batch:
    """Some tags of an epoch, the caller's own. ``sha256`` is as `native.digest` makes it."""

    stream: Stream
    header: BatchHeader
    sha256: str
    tags: Tags = field(repr=False)


class TagSource(Protocol):
    """One end's device that gives time tags. Every method but `describe` raises LinkDown.

    Settings of Alice are never here: they are asked of her own end's device, by index.
    """

    def describe(self) -> Description:
        """The same before and after arming. Raises LinkDown when the device is gone."""

    def arm(self, block_id: BlockId, settings: Settings) -> None:
        """Be ready for an epoch. Whatever was armed before is over, its credit as well."""

    def credit(self, batches: int) -> None:
        """So many more batches may be given out. Without credit a simulation or a replay waits;
        a device whose buffer runs full meanwhile drops the epoch."""

    def batches(self) -> Iterator[Batch]:
        """The armed epoch from its beginning, as its own chain; the same again when asked again.

        It ends with the epoch. A dropped epoch is one batch without tags, and ``missed`` > 0.
        """

    def health(self) -> Health:
        """At any time, also while an epoch is waited for; within a second."""

    def stop(self) -> None:
        """Give up the epoch: whoever waits for it has LinkDown within a second."""

    def close(self) -> None:
        """Let the device go; arming takes it again, with counts that begin anew."""


def copied(tags: Tags) -> Tags:
    """The same tags in an array of their own; by bytes, as those of records are slow to copy."""
    return np.ascontiguousarray(tags).view(np.uint8).copy().view(TAG)


def settings_digest(settings: Settings) -> str:
    """Of what a stream was armed with: another value is another stream."""
    return digest(settings)


def made(
    chain: native.Chain, epoch: int, tags: Tags, watermark: int, clock_state: str = "unknown"
) -> Batch:
    """The next batch of an epoch's chain."""
    header = chain.follow(tags, watermark=watermark, epoch=epoch, clock_state=clock_state)
    return Batch(stream=chain.stream, header=header, sha256=chain.before, tags=tags)


def dropped(stream: Stream, epoch: int, missed: int) -> Batch:
    """All that is given of an epoch that lost ``missed`` events."""
    chain, none = native.Chain(stream), np.zeros(0, TAG)
    header = chain.follow(none, watermark=native.TIMES[0], epoch=epoch, missed=missed)
    return Batch(stream=stream, header=header, sha256=chain.before, tags=none)


class Verified:
    """Takes the batches of an epoch in turn, and refuses what breaks a promise."""

    def __init__(self, block_id: BlockId, cfg_digest: str) -> None:
        self._block_id, self._cfg_digest = block_id, cfg_digest
        self._stream: Stream | None = None
        self._before = ""
        self._seq = -1
        self._watermark = native.TIMES[0]

    def take(self, batch: Batch) -> None:
        """Raises LinkDown, with the promise that is broken."""
        broken = self._broken(batch)
        if broken:
            number = f"batch {self._seq + 1}"
            raise LinkDown(f"block {self._block_id}: {number} of the device: {broken}")
        self._seq += 1
        self._before = batch.sha256
        self._watermark = max(self._watermark, batch.header.watermark)

    def _broken(self, batch: Batch) -> str:
        header = batch.header
        if self._stream is None:
            self._stream = batch.stream
            self._before = sha256(native.first_line(batch.stream)).hexdigest()
        reasons = (
            (batch.stream != self._stream, "another stream begins within the epoch"),
            (batch.stream.cfg_digest != self._cfg_digest, "made with other settings than armed"),
            (header.epoch != self._block_id, f"belongs to epoch {header.epoch}"),
            (header.missed > 0, f"{header.missed} events missed: the epoch is dropped"),
            (header.seq != self._seq + 1, f"its number is {header.seq}"),
            (batch.tags.dtype != TAG, f"tags of type {batch.tags.dtype}"),
            (header.n != batch.tags.size, f"{batch.tags.size} tags, its header says {header.n}"),
            (header.prev_sha256 != self._before, "does not follow the batch before it"),
            (header.clock_state not in native.CLOCK_STATES, "its clock has no state"),
            (header.clock_state == "unlocked", "the device's clock is unlocked"),
        )
        for is_broken, reason in reasons:
            if is_broken:
                return reason
        return self._broken_by_content(batch)

    def _broken_by_content(self, batch: Batch) -> str:
        header, tags = batch.header, batch.tags
        told = native.digest(native.header_members(batch.stream, header), native.content_of(tags))
        if told != batch.sha256:
            return "its hash is not that of its content"
        if not tags.size:
            return ""
        broken = broken_by_tags(header, tags, self._watermark)
        if not broken and np.any(tags["flags"] & LOST):
            return "a tag is flagged as of a loss, or of an unlocked clock"
        return broken
