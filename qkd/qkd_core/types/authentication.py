"""Pads and tags of the classical channel."""

from dataclasses import dataclass, field
from enum import IntEnum

from qkd_core.types.ids import BlockId, Side

TAG_BYTES = 16
PAD_BYTES = 16
PRESHARED_PADS = 1024  # per direction and lane, in segment 0
PRESHARED_BYTES = 4 * (1 + PRESHARED_PADS) * 16  # two directions, two lanes; hash key and pads
SETTLING_PADS = 4  # of each segment, kept back for settling after a crash
MESSAGE_BYTES_MAX = 1 << 32  # that one tag covers; the cost of a tag is by this


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
    """Every message between two engines."""

    HELLO = 1
    SETTLE = 2
    STATES = 3
    PLAN = 10
    START = 11
    CLICKS = 12
    BASES = 13
    OUTCOMES = 14
    PERMUTATION = 15
    PARITIES = 16
    VERIFICATION = 18
    SEED = 19
    ACCEPTANCE = 20
    CONFIRMATION = 21
    SYNDROME = 22
    VERDICTS = 23
    REVEALED = 24
    TEST_BITS = 25
    BOB_BASES = 26
    KEY_IDS = 27
    ABORT = 30
