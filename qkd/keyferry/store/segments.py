"""How the bytes of a segment become pads: a common rule, so that both sites cut alike.

A segment is a 16-byte hash key and its pads of 16 bytes. The pre-shared secret is four of them:
``[A to B pool | A to B reserve | B to A pool | B to A reserve]``.
Source: `architecture.md`, section 7.
"""

from dataclasses import dataclass, field

from qkd_core.errors import ConfigError
from qkd_core.types.authentication import PAD_BYTES, PRESHARED_BYTES, Lane
from qkd_core.types.ids import BlockId, Side

PRESHARED = BlockId(0)
PAD_RUN = 16  # pads that one durable mark covers; a restart loses the rest of its run
RETIRED_BEHIND = 16  # segments behind the newest verified one, after which an old one goes


@dataclass(frozen=True, slots=True)
class SegmentBytes:
    """One direction and lane of one segment, not yet in a store."""

    sender: Side
    lane: Lane
    segment: BlockId
    hash_key: bytes = field(repr=False)
    pads: bytes = field(repr=False)

    @property
    def n_pads(self) -> int:
        return len(self.pads) // PAD_BYTES


def cut_segment(sender: Side, lane: Lane, segment: BlockId, data: bytes) -> SegmentBytes:
    """The hash key and the pads of ``data``, whose length is a multiple of 16."""
    return SegmentBytes(sender, lane, segment, data[:PAD_BYTES], data[PAD_BYTES:])


def cut_preshared(secret: bytes) -> tuple[SegmentBytes, ...]:
    """Segment 0 of both directions and lanes. Raises ConfigError on another size or zeros only."""
    if len(secret) != PRESHARED_BYTES:
        raise ConfigError(
            f"the pre-shared secret has {len(secret)} bytes, this version needs {PRESHARED_BYTES}"
        )
    if not any(secret):
        raise ConfigError("the pre-shared secret is all zeros: its file was erased")
    part = len(secret) // 4
    places = [(sender, lane) for sender in Side for lane in Lane]
    return tuple(
        cut_segment(sender, lane, PRESHARED, secret[i * part : (i + 1) * part])
        for i, (sender, lane) in enumerate(places)
    )
