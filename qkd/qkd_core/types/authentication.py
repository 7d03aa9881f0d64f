"""Pads and tags of the classical channel."""

from dataclasses import dataclass, field
from enum import IntEnum

from qkd_core.types.ids import BlockId, Side

TAG_BYTES = 16
PAD_BYTES = 16
PRESHARED_PADS = 1024  # per direction and lane, in segment 0
PRESHARED_BYTES = 4 * (1 + PRESHARED_PADS) * 16  # two directions, two lanes; hash key and pads


class Lane(IntEnum):
    """``pool`` for the messages of blocks, ``reserve`` for settling when nothing else is left."""

    POOL = 0
    RESERVE = 1


@dataclass(frozen=True, slots=True, order=True)
class PadName:
    """A pad's name on the wire; ``segment`` is 0 or the number of the block it came from."""

    sender: Side
    lane: Lane
    segment: BlockId
    index: int


@dataclass(frozen=True, slots=True)
class Pad:
    """One pad with the hash key of its segment. A pad serves one message, ever."""

    name: PadName
    hash_key: bytes = field(repr=False)
    pad: bytes = field(repr=False)


class MessageKind(IntEnum):
    """Every message between two engines, in the order in which a block meets them."""

    HELLO = 1
    SETTLE = 2
    STATES = 3
    PLAN = 10
    CLICKS = 11
    BASES = 12
    OUTCOMES = 13
    PERMUTATION = 14
    PARITIES = 15
    DIFFERENCES = 16
    VERIFICATION = 17
    SEED = 18
    ACCEPTANCE = 19
    CONFIRMATION = 20
    ABORT = 30
