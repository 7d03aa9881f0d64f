"""What the core asks of the outside. Each port states its promise and its errors.

Times are seconds since 1970, from the caller's clock. A store method is one transition in one
transaction with its audit record: if it raises, nothing happened; if it returns, it is durable.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qkd_core.types.agreement import BlockRecord, Cession, Notice, PadMarks
from qkd_core.types.authentication import Lane, MessageKind, Pad, PadName
from qkd_core.types.blocks import DecoySettings, Detections
from qkd_core.types.figures import PoolLevel
from qkd_core.types.ids import BlockId, Generation, KeyId, Provenance, SaeId, Side
from qkd_core.types.keys import (
    Allocation,
    BlockState,
    DeliveredKey,
    KeyRange,
    KeyRequest,
    NewBlock,
    RefreshRun,
    RefreshState,
)
from qkd_core.types.refresh import RefreshProposal
from qkd_core.types.witness import Marks, Proof, Remembered, Runs


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since 1970."""


# ------------------------------------------------------------------------------ the quantum link
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


# -------------------------------------------------------------------------- the classical channel
class ClassicalChannel(Protocol):
    """One block's conversation with the peer: ordered, with deadlines; all of it known to Eve.

    Untagged messages, sent and received, join the block's transcript in order. The tag of an
    acceptance covers the transcript, so that everything said before it is authentic afterwards.
    """

    def send(self, kind: MessageKind, body: bytes) -> None:
        """Raises ChannelError."""

    def receive(self, kind: MessageKind) -> bytes:
        """The next message, which must be of this kind.

        Raises ChannelError (broken, silent, another kind), PeerAborted.
        """

    def send_tagged(self, kind: MessageKind, body: bytes, *, transcript: bool = False) -> None:
        """Raises ChannelError, AuthenticationPoolExhausted."""

    def receive_tagged(self, kind: MessageKind, *, transcript: bool = False) -> bytes:
        """Raises ChannelError, PeerAborted, AuthenticationFailed."""


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


# ---------------------------------------------------------------------------------- the key store
class BlockStore(Protocol):
    """Blocks of one link at one site."""

    def newest(self) -> BlockId:
        """The highest block number ever used here; 0 at first."""

    def note_used(self, block_id: BlockId) -> None:
        """Durably remember that the number is used, so that no later block has it."""

    def state(self, block_id: BlockId) -> BlockState: ...

    def pending(self) -> tuple[BlockId, ...]: ...

    def store_pending(self, block: NewBlock) -> None:
        """Keep the block, sealed, and its segments, until the peer confirms. Idempotent.

        Raises BlockDiscarded when the block is destroyed here, ValueError when another one is
        stored under its number or it is too short for its layout.
        """

    def make_available(self, block_id: BlockId) -> None:
        """The peer has the block too. Idempotent.

        Raises BlockDiscarded for a block that is destroyed or unknown here.
        """

    def destroy(self, block_id: BlockId, reason: str) -> None:
        """Erase what is left of the block and its segments. Idempotent."""

    def record_discarded(self, block_id: BlockId, reason: str, detail: str) -> None:
        """A block ended without key: counted and audited by the class of its reason."""

    def free_bytes(self) -> int:
        """Stored bytes of this site's half that are not allocated."""

    def provenances(self) -> tuple[Provenance, ...]:
        """Of the blocks that `free_bytes` counts; sorted, each once."""

    def unspent(self) -> tuple[BlockId, ...]:
        """Available blocks with a byte that is in no key, as far as this site knows; ascending."""

    def stored_bytes(self) -> int:
        """Bytes of available blocks that are in no key, whoever owns them."""

    def note_paused(self, paused: bool) -> None:
        """The link waits because the store is full, or goes on: shown and audited."""


class AllocationStore(Protocol):
    """Keys cut from the stored bytes of one link, at one site."""

    def deliver(self, request: KeyRequest, expires_at: float) -> tuple[DeliveredKey, ...]:
        """Allocate from this site's half and deliver to the master, with an outbox row each.

        All or nothing. Raises KeysExhausted.
        """

    def hold(self, request: KeyRequest, expires_at: float) -> tuple[Allocation, ...]:
        """As `deliver`, but the bytes stay here, sealed under their key IDs, until `drop_held`."""

    def allocation(self, key_id: KeyId) -> Allocation | None:
        """What this site knows of the key ID, delivered or not."""

    def accept(self, allocation: Allocation) -> None:
        """Take over an allocation of the peer: seal its bytes under the key ID for the slaves.

        Idempotent by key ID. A pending block that it names becomes available first. Raises
        PeerViolation when a range is outside the peer's half or overlaps one that was ever
        recorded; the named blocks are burnt then. KeyNotFound when a block is not here.
        """

    def deliver_by_id(
        self, slave: SaeId, master: SaeId, key_ids: Sequence[KeyId], now: float
    ) -> tuple[DeliveredKey, ...]:
        """ETSI GS QKD 014, 5.4: each once per slave; all or nothing.

        Raises KeyNotFound (unknown, expired, consumed), NotAuthorised.
        """

    def read_held(self, key_id: KeyId) -> DeliveredKey:
        """The bytes of a held key, for publishing; they stay. Raises KeyNotFound."""

    def drop_held(self, key_id: KeyId, *, burnt: bool) -> None:
        """Erase the bytes of a held key: it was published everywhere, or is burnt. Idempotent."""

    def expire(self, now: float) -> int:
        """Burn what expired; returns how many keys."""

    def outbox(self, limit: int) -> tuple[Allocation, ...]:
        """Unacknowledged allocations, oldest first."""

    def acknowledge(self, key_ids: Sequence[KeyId]) -> None:
        """The peer has them."""


class AgreementStore(Protocol):
    """What the two KMEs agree on about stored bytes, beside allocations.

    A deed that the peer must know of leaves a notice in the same transaction; the notice stays
    until the peer has acknowledged it. Every deed of the peer is checked against all that is
    recorded here before it takes effect.
    """

    def cede(self, n_bytes: int) -> tuple[Cession, ...]:
        """Give up to ``n_bytes`` of this site's free bytes to the peer, for good."""

    def burn_key(self, key_id: KeyId, reason: str) -> str:
        """Burn a key at both sites; returns what state it was in here. Raises KeyNotFound.

        Bytes that were handed out stay where they went.
        """

    def destroy_block(self, block_id: BlockId, reason: str) -> None:
        """Erase what is left of a block at both sites. Idempotent."""

    def orphan_block(self, block_id: BlockId, at_peer: BlockState) -> tuple[KeyId, ...]:
        """The peer lost a block that is available here: burn the rest, and report the keys.

        Those are the keys cut here that the peer will never have. Idempotent.
        """

    def zeroise_link(self, reason: str) -> None:
        """Erase stored bytes, held keys and pads at both sites: the link needs a rekey."""

    def notices(self, limit: int) -> tuple[Notice, ...]:
        """What the peer has not acknowledged, oldest first."""

    def told(self, notice_ids: Sequence[str]) -> None:
        """The peer has acted on them."""

    def refused(self, notice: Notice, why: str) -> None:
        """The peer will never act on it: an alarm, and the notice goes."""

    def heed(self, notice: Notice) -> None:
        """Act on a notice of the peer, once. Raises PeerViolation; what it named is burnt then."""


class RecordStore(Protocol):
    """What a site can show of its records to compare them with the peer's."""

    def unspent(self) -> tuple[BlockId, ...]:
        """As `BlockStore.unspent`."""

    def records(self, blocks: Sequence[BlockId]) -> tuple[BlockRecord, ...]:
        """One for each, of one moment; state ``none`` for a block that is not here."""

    def read_free(self, ranges: Sequence[KeyRange]) -> bytes:
        """Bytes that are in no key here, for hashing; they stay.

        Raises KeyNotFound, StoreDamaged.
        """

    def pad_marks(self) -> PadMarks:
        """The first unused pad by sender, lane and segment."""

    def note_differences(self, found: Sequence[str]) -> None:
        """Differences between the records of both sites: audited, and an alarm each."""

    def note_reconciled(self, n_blocks: int, n_bytes: int, n_differences: int) -> None:
        """Records were compared: of so many blocks, and a hash over so many bytes."""


class RefreshStore(Protocol):
    """Refresh runs at one site, one row a run; each change is durable before it is acted on."""

    def begin(self, run: RefreshRun) -> None:
        """Record a new run. Idempotent for the same run; ValueError for another one with its
        policy and generation."""

    def run(self, run_id: str) -> RefreshRun | None: ...

    def unfinished(self) -> tuple[RefreshRun, ...]:
        """Runs that are not done, aborted or blocked, oldest first."""

    def newest(self, policy: str) -> RefreshRun | None:
        """The run with the highest generation."""

    def move(
        self,
        run_id: str,
        state: RefreshState,
        *,
        native_version: int | None = None,
        reason: str | None = None,
    ) -> RefreshRun:
        """Advance the run. ValueError for a move that the state machine does not have."""


class SiteWitness(Protocol):
    """How far this site came, and how far it may go.

    A site that is older than its peer remembers delivers, consumes and tags nothing; any other one
    only as far as its peer has acknowledged beforehand (`architecture.md`, section 4).
    """

    def marks(self) -> Marks:
        """How far this site is, all of it durable. Each deed moves a head."""

    def judge(self, told: Remembered) -> None:
        """Compare what the peer remembers of this site. Raises RolledBack, then and ever after.

        Raises PeerUnavailable when this site is new and the peer has to be rekeyed too.
        """

    def has_evidence(self) -> bool:
        """Whether it is certain without the peer that nothing is missing here.

        That is: since the site was last let open, all that it did was noted in another place,
        which does not go back with the store, and is here.
        """

    def enter(self, era: int, proof: Proof) -> None:
        """The peer let this site open. Without proof, held keys that were perhaps consumed are
        burnt at both sites and nothing is open any more; keys of refresh runs under way stay.

        Raises RolledBack.
        """

    def begin_closing(self) -> None:
        """The site is being stopped: its marks say so. It still acts."""

    def close(self) -> Marks:
        """Act no more until the next start; returns the final marks."""

    def runs_wanted(self, n_bytes: int, lanes: Sequence[Lane]) -> Runs:
        """What the peer is to open, for ``n_bytes`` and a run of each lane's pads to be open."""

    def is_low(self, of_bytes: bool, lanes: Sequence[Lane]) -> bool:
        """Whether less than half of a run is open, of bytes or of a lane's pads."""

    def take_runs(self, asked: Runs, opened: Runs) -> None:
        """The peer opened them: act within. What lies before, and is not known to be used, is
        burnt at both sites. Bytes that were not asked for, or are no longer free, stay as they
        are."""

    def park(self, now: float) -> int:
        """Give up consuming keys, without asking, that were held for a while; how many."""

    def ask_release(self, key_ids: Sequence[KeyId]) -> None:
        """Durably note that the peer is going to be asked for parked keys."""

    def take_release(self, key_ids: Sequence[KeyId]) -> None:
        """The peer knows that these parked keys may be consumed."""


class PeerWitness(Protocol):
    """What this site durably knows of its peer's progress, and has let it do."""

    def remembered(self) -> Remembered:
        """What this site remembers of its peer."""

    def remember(self, marks: Marks) -> None:
        """Keep the newest of what the peer told; a stranger's marks are left out.

        A closed peer stays closed: only `let_open` opens it.
        """

    def let_open(self, marks: Marks, proof: Proof) -> int:
        """The peer starts; returns its era. Without proof, what was open to it is not opened
        again, and keys that it has not acknowledged are burnt at both sites.

        Raises RolledBack for an incarnation of the peer that is not the one known here.
        """

    def let_run(self, marks: Marks, wanted: Runs) -> Runs:
        """Keep the peer's marks, and open runs for it: what lies in its own part.

        Raises PeerUnavailable when it speaks as another incarnation or of an older era.
        """

    def let_release(self, marks: Marks) -> None:
        """Keep the peer's marks, in which it says that it consumes parked keys. Raises as above."""

    def is_untold(self, key_id: KeyId) -> bool:
        """Whether the peer has not acknowledged this key of ours: only then may it pull it."""


class WitnessStore(SiteWitness, PeerWitness, Protocol):
    """Both, and the way out: a site that starts empty gives nothing away a second time."""

    def start_empty(self, reason: str) -> None:
        """Erase all key and all pads; a new incarnation, for which the peer has to be rekeyed."""

    def rekey(self, secret: bytes, reason: str) -> None:
        """Start empty with a new pre-shared secret. ConfigError on its size, or if it is old."""


class PoolGauge(Protocol):
    """How the pool of this site's half stands, for forecasts and for shares of it."""

    def level(self) -> PoolLevel: ...


# ------------------------------------------------------------------------------------- the others
class PeerKme(Protocol):
    """The other site's KME, over the inter-KME API."""

    def pull(self, key_id: KeyId) -> Allocation:
        """Ask the allocator for one of its keys. Raises PeerUnavailable, KeyNotFound."""


class WitnessPeer(Protocol):
    """The other site's witness, over the inter-KME API. Each call raises PeerUnavailable."""

    def remembered(self) -> Remembered:
        """What the peer remembers of this site."""

    def open(self, marks: Marks, proof: Proof) -> int:
        """This site's era. Raises RolledBack when the peer refuses this incarnation."""

    def run(self, marks: Marks, wanted: Runs) -> tuple[Runs, Remembered]:
        """What the peer opened of ``wanted``, and what it remembers now."""

    def release(self, marks: Marks) -> None:
        """The peer knows that keys parked here may be consumed."""

    def close(self, marks: Marks) -> bool:
        """The peer knows that this site is at rest; whether it is being stopped as well."""


class RefreshPeer(Protocol):
    """The other site's refresh runs, over the inter-KME API."""

    def propose(self, proposal: RefreshProposal) -> RefreshRun:
        """The run as the peer recorded it, now or at an earlier call.

        Raises PeerUnavailable (also while an earlier run of the policy is under way there);
        RefreshRefused when it will never run it.
        """

    def run(self, run_id: str) -> RefreshRun | None:
        """The run as the peer has it, without its native version; None only if it said so.

        Raises PeerUnavailable.
        """


class KeySink(Protocol):
    """A key management system that takes refreshed keys under one name.

    Every call is idempotent. Raises SinkUnavailable, SinkRejected, GenerationConflict.
    """

    def prepare(self, generation: Generation) -> None:
        """Check login, permission and that ``generation`` is the next one; change nothing."""

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        """Write the key under ``generation`` and prove it; returns the native version."""

    def agree(self, generation: Generation) -> None:
        """Both sites have ``generation``: mark it as the agreed one."""

    def state(self) -> tuple[Generation, int]:
        """The newest generation and its native version; (0, 0) before the first."""
