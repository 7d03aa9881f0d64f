"""Frames: a fixed header, a body, and for tagged messages a trailer that names the pad.

| header | body | trailer (tagged frames only) |

header:  magic ``KFE1``, kind u8, flags u8, block u64, oldest settled block u64, body bytes u32
trailer: lane u8, segment u64, index u32, then the same three for the newest pad of the receiver
         that the sender has verified (lane 255: none), then the tag (16 bytes)

Integers are big-endian. Everything but the tag is covered by the tag.
"""

from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from qkd_core.errors import ChannelError
from qkd_core.ports.link import Body
from qkd_core.types.authentication import TAG_BYTES, Lane, MessageKind, PadName
from qkd_core.types.ids import BlockId, Side

MAGIC = b"KFE1"
TAGGED, WITH_TRANSCRIPT = 1, 2
BODY_LIMIT = 64 << 20
HEADER = Struct(">4sBBQQI")
NAMES = Struct(">BQIBQI")
NO_LANE = 255
NUMBER_LIMIT = 1 << 62  # so that every number fits into the store


@dataclass(frozen=True, slots=True)
class Header:
    """``settled``: the oldest block that a settling message is about, else 0."""

    kind: MessageKind
    flags: int
    block_id: BlockId
    settled: BlockId
    n_body: int

    def encode(self) -> bytes:
        return HEADER.pack(MAGIC, self.kind, self.flags, self.block_id, self.settled, self.n_body)

    @classmethod
    def decode(cls, data: bytes) -> "Header":
        """Raises ChannelError for anything that this version does not send."""
        magic, kind, flags, block, settled, n_body = HEADER.unpack(data)
        if magic != MAGIC:
            raise ChannelError(f"the peer speaks something else: magic {magic!r}, not {MAGIC!r}")
        if flags not in (0, TAGGED, TAGGED | WITH_TRANSCRIPT):
            raise ChannelError(f"frame flags {flags} are unknown")
        if max(block, settled) >= NUMBER_LIMIT:
            raise ChannelError(f"a block number of {NUMBER_LIMIT} or more")
        if n_body > BODY_LIMIT:
            raise ChannelError(f"a body of {n_body} bytes, the limit is {BODY_LIMIT}")
        try:
            return cls(MessageKind(kind), flags, BlockId(block), BlockId(settled), n_body)
        except ValueError:
            raise ChannelError(f"message kind {kind} is unknown") from None


class Trailer(NamedTuple):
    """The pad of this message, and the receiver's newest pad that the sender has verified."""

    name: PadName
    verified: PadName | None
    tag: bytes

    def names(self) -> bytes:
        """The part of the trailer that the tag covers."""
        verified = self.verified
        acknowledged = (
            (NO_LANE, 0, 0)
            if verified is None
            else (verified.lane, verified.segment, verified.index)
        )
        return NAMES.pack(self.name.lane, self.name.segment, self.name.index, *acknowledged)

    def encode(self) -> bytes:
        return self.names() + self.tag

    @classmethod
    def decode(cls, data: bytes, sender: Side) -> "Trailer":
        """``sender``: who the connection says it comes from. Raises ChannelError."""
        lane, segment, index, *acknowledged = NAMES.unpack(data[: NAMES.size])
        if max(segment, acknowledged[1]) >= NUMBER_LIMIT:
            raise ChannelError(f"a segment number of {NUMBER_LIMIT} or more")
        try:
            name = PadName(sender, Lane(lane), BlockId(segment), index)
            verified = None
            if acknowledged[0] != NO_LANE:
                verified = PadName(
                    sender.other,
                    Lane(acknowledged[0]),
                    BlockId(acknowledged[1]),
                    acknowledged[2],
                )
            elif any(acknowledged[1:]):  # not what the tag covers
                raise ChannelError("a trailer that names a pad of no lane")
        except ValueError:
            raise ChannelError(f"lane {lane} or {acknowledged[0]} is unknown") from None
        return cls(name, verified, data[NAMES.size :])


TRAILER_BYTES = NAMES.size + TAG_BYTES


class Frame(NamedTuple):
    header: Header
    body: Body
    trailer: Trailer | None
