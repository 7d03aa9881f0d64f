"""A site's end of the quantum link and of the classical channel, and the pads of its tags."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qkd_core.types.authentication import Lane, MessageKind, Pad, PadName
from qkd_core.types.bits import PackedBits
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.monitors import Shots
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_core.types.vendor import Stock, VendorKey


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since 1970."""


class AliceDevice(Protocol):
    """The preparing end. It remembers the settings of a block until the next one is armed."""

    @property
    def provenance(self) -> Provenance: ...

    def arm(self, block_id: BlockId, settings: DecoySettings) -> None:
        """Send the block's pulses once the other end is armed too. Raises LinkDown."""

    def settings(self, block_id: BlockId, slot: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """uint8[n]: bit | basis << 1 | intensity << 2 of each asked pulse. Raises LinkDown.

        The block's pulses have all been sent when it returns.
        """


class BobDevice(Protocol):
    """The detecting end."""

    @property
    def provenance(self) -> Provenance: ...

    def arm(self, block_id: BlockId, settings: DecoySettings) -> None:
        """Be ready for the block's first pulse. Raises LinkDown."""

    def detections(self, block_id: BlockId) -> Detections:
        """All clicks of the block, once its last pulse is over; whole or not at all.

        Raises LinkDown when the device is gone or lost any part of the block.
        """


class SelfTest(Protocol):
    """An ability of some detecting ends: light of their own that fires in random, secret slots."""

    def shots(self, block_id: BlockId) -> Shots:
        """Where it fired in this block, whose `detections` came before. Raises LinkDown.

        Whether a detector clicked there is for the caller to look up. The choice of the slots
        depends on nothing else.
        """


class TagDevice(Protocol):
    """Either end of a link of entangled pairs that gives its time tags."""

    @property
    def provenance(self) -> Provenance: ...

    def arm(self, block_id: BlockId, settings: PairSettings) -> None:
        """Be ready for the block; it begins when both ends are. Raises LinkDown."""

    def tags(self, block_id: BlockId) -> Detections:
        """All clicks of the block by this end's own clock, once it is over; whole or not at all.

        The two ends begin within a few milliseconds of each other, and nothing else is known of
        how their clocks differ. A clock runs on from block to block; it may be set anew between
        two of them, and stays below 2^60 ps, 13 days. Raises LinkDown.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """One end's sifted bits of a block of pairs, packed; equal bases at both ends.

    key   uint64[ceil(n_key / 64)], zero beyond n_key
    test  uint64[ceil(n_test / 64)], zero beyond n_test
    """

    n_key: int
    n_test: int
    key: PackedBits = field(repr=False)
    test: PackedBits = field(repr=False)


class KeyDevice(Protocol):
    """Either end's box of a vendor that gives finished keys (ETSI GS QKD 014)."""

    @property
    def provenance(self) -> Provenance: ...

    def require_reachable(self) -> None:
        """Raises LinkDown when the box does not answer at all."""

    def stock(self) -> Stock:
        """What the box can give now for the two ends. Raises LinkDown."""

    def new_keys(self, number: int, key_bits: int) -> tuple[VendorKey, ...]:
        """Keys that the box has never given, at the end that is master; unchecked.

        Raises LinkDown: not enough of them, or no answer; of the latter the keys may be gone.
        """

    def keys_of(self, key_ids: tuple[str, ...]) -> tuple[VendorKey, ...]:
        """The keys that the other end was given under these IDs; unchecked. Raises LinkDown."""


Body = bytes | bytearray | memoryview
"""A message's body, one byte an item."""


class ClassicalChannel(Protocol):
    """One block's conversation with the peer: ordered, with deadlines; all of it known to Eve.

    Untagged messages, sent and received, join the block's transcript in order. The tag of an
    acceptance covers the transcript, so that everything said before it is authentic afterwards.
    What was sent is the caller's again when the call returns.
    """

    def send(self, kind: MessageKind, body: Body) -> None:
        """Raises ChannelError."""

    def receive(self, kind: MessageKind) -> bytes:
        """The next message, which must be of this kind.

        Raises ChannelError (broken, silent, another kind), PeerAborted.
        """

    def send_tagged(self, kind: MessageKind, body: Body, *, transcript: bool = False) -> None:
        """Raises ChannelError, AuthenticationPoolExhausted."""

    def receive_tagged(self, kind: MessageKind, *, transcript: bool = False) -> bytes:
        """Raises ChannelError, PeerAborted, AuthenticationFailed."""


class PairDevice(Protocol):
    """Either end of a link of entangled pairs, up to its sifted bits."""

    @property
    def provenance(self) -> Provenance: ...

    def arm(self, block_id: BlockId, settings: PairSettings) -> None:
        """Be ready for the block. Raises LinkDown."""

    def outcomes(self, block_id: BlockId, channel: ClassicalChannel) -> Outcomes:
        """The sifted bits of the block, once it is over; arrays of their own.

        Both ends have fixed them by now. ``channel`` is for what has to be said to find them:
        times and bases, never outcomes. Raises LinkDown, BlockDiscarded, ChannelError.
        """


class PadStore(Protocol):
    """The two one-way pools of a link (`architecture.md`, section 7), as one site holds them."""

    def install_preshared(self, secret: bytes) -> None:
        """Make segment 0 of both lanes and directions from ``secret``; ConfigError on its size.

        Installing the same secret again changes nothing; another one while segment 0 exists is
        a ConfigError.
        """

    def take(self, lane: Lane, *, older_than: BlockId | None, proved: bool) -> Pad:
        """A pad for one message of this site, durably marked used before it is returned.

        The oldest segment with a pad left, which is 0 or that of an available block. Marks may
        be made in runs; after a restart the rest of a run is skipped. ``older_than``: only
        segments below. ``proved``: only the newest segment under which the peer has verified a
        tag of this site; the last ``SETTLING_PADS`` pads of each segment are kept for this.
        Raises AuthenticationPoolExhausted.
        """

    def prove(self, name: PadName) -> None:
        """The peer has verified our tag ``name``: its answer says so."""

    def expected(self, name: PadName) -> Pad:
        """The peer's pad for checking one tag. Raises AuthenticationFailed.

        Refused: an index at or below the mark of its (sender, lane, segment), a burnt index, a
        segment that is not here or whose block is destroyed. Each refusal is an alarm, and the
        audit has a record a minute of each kind.
        """

    def advance(self, name: PadName) -> None:
        """The tag ``name`` of the peer is verified: durably move the mark, before acting on it.

        A tag under the segment of a block that is pending here proves that the peer holds the
        block as available: it becomes available here in the same transition.
        """

    def burn(self, name: PadName) -> None:
        """A tag failed: this index is never verified again; the mark stays."""

    def remaining(self, sender: Side, lane: Lane) -> int:
        """Pads left, as far as this site knows."""
