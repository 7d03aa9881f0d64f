"""Blocks, keys and what the sites agree on about them, at one site; and the other site's KME."""

from collections.abc import Sequence
from typing import Protocol

from qkd_core.types.agreement import BlockRecord, Cession, Notice, PadMarks
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.figures import EpsilonFigures, PairLight, PoolLevel
from qkd_core.types.ids import BlockId, KeyId, Provenance, SaeId
from qkd_core.types.keys import Allocation, BlockState, DeliveredKey, KeyRange, KeyRequest, NewBlock
from qkd_core.types.plans import SecurityPolicy


class BlockStore(Protocol):
    """Blocks of one link at one site."""

    def newest(self) -> BlockId:
        """The highest block number ever used here; 0 at first."""

    def note_used(self, block_id: BlockId) -> None:
        """Durably remember that the number is used, so that no later block has it."""

    def begin(self, block_id: BlockId, policy: SecurityPolicy) -> None:
        """The block's plan is agreed: its number is used and what it may cost is spent, at once.

        Once for a block, before its first pulse. Raises BlockDiscarded for a number that is used.
        """

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

    def note_light(self, light: PairLight) -> None:
        """What the newest block of pairs shows of its light: shown, not audited."""


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


class EpsilonLedger(Protocol):
    """What a link has cost in epsilon since its pre-shared secret came, as one site knows it.

    Never below what was spent. A block spends when it begins (`BlockStore.begin`); a tag when its
    pad is marked used, verified or burnt (`PadStore`), so the rest of a run that is skipped counts
    as well. What only the peer knows of is in the peer's ledger: a block whose plan did not come
    here or was refused, a forged tag that was tried there. A new pre-shared secret begins a new
    sum; the audit keeps the old one. The block with which the sum comes to the alarm's value
    brings an alarm and a record, once. Source: `proofs.ledger`.
    """

    def set_limits(self, limits: EpsilonLimits) -> None:
        """From now on these are in force: a change is audited, and looked at as a new block is."""

    def allows(self, policy: SecurityPolicy) -> bool:
        """Whether one more block stays within the limit.

        When it does not any more, that is an alarm, shown and audited, once.
        """

    def figures(self) -> EpsilonFigures:
        """The sums as they stand."""


class PoolGauge(Protocol):
    """How the pool of this site's half stands, for forecasts and for shares of it."""

    def level(self) -> PoolLevel: ...


class PeerKme(Protocol):
    """The other site's KME, over the inter-KME API."""

    def pull(self, key_id: KeyId) -> Allocation:
        """Ask the allocator for one of its keys. Raises PeerUnavailable, KeyNotFound."""
