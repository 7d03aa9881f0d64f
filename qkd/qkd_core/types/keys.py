"""Stored key, what is cut from it, and for whom."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from qkd_core.types.bits import PackedBits
from qkd_core.types.ids import (
    BlockId,
    Generation,
    KeyId,
    KmeId,
    LinkId,
    Provenance,
    SaeId,
    Side,
)


class BlockState(StrEnum):
    """``none`` is what a site says of a block that it never stored."""

    NONE = "none"
    PENDING = "pending"
    AVAILABLE = "available"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLayout:
    """How the bits of a block are used; a common rule, so that both sites cut alike.

    ``[segment A to B | segment B to A | half of A | half of B]``, all in whole bytes. A segment is
    a 16-byte hash key and ``segment_pads`` pads of 16 bytes.
    """

    n_secret: int
    segment_pads: int

    @property
    def segment_bytes(self) -> int:
        """Of one direction; 0 when the block refills nothing."""
        return 16 * (1 + self.segment_pads) if self.segment_pads else 0

    @property
    def stored_bytes(self) -> int:
        """Of both halves together."""
        return max(0, self.n_secret // 8 - 2 * self.segment_bytes)

    def half(self, owner: Side) -> tuple[int, int]:
        """First and past-last byte of the owner's half, counted from the first stored byte."""
        middle = self.stored_bytes // 2
        return (0, middle) if owner is Side.A else (middle, self.stored_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBlock:
    """A distilled block on its way into the store."""

    block_id: BlockId
    link_id: LinkId
    layout: BlockLayout
    bits: PackedBits = field(repr=False)
    provenance: Provenance
    plan_digest: str
    tallies_digest: str
    certificate: str  # JSON text
    qber: float
    link_s: float  # seconds of link time that the block took


@dataclass(frozen=True, slots=True, order=True)
class KeyRange:
    """Bytes [start, stop) of the stored bytes of one block."""

    block_id: BlockId
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Which stored bytes are one key, and whose. No bits: it crosses the inter-KME API.

    ``expires_at`` is absolute, in seconds since 1970, fixed by the allocating KME.
    """

    key_id: KeyId
    link_id: LinkId
    owner: Side
    master: SaeId
    slaves: tuple[SaeId, ...]
    ranges: tuple[KeyRange, ...]
    n_bits: int
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """ETSI GS QKD 014, 6.2, with the caller as master.

    ``provenances``: what the keys may be made of, when the caller insists on it.
    """

    master: SaeId
    slaves: tuple[SaeId, ...]
    number: int
    n_bits: int
    provenances: frozenset[Provenance] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredKey:
    """A key that leaves the store."""

    key_id: KeyId
    secret: bytes = field(repr=False)
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatus:
    """ETSI GS QKD 014, 6.1, without what the edge knows by itself.

    ``time_to_empty_s``: at the recent rates; infinity while the pool does not sink.
    """

    source_kme: KmeId
    target_kme: KmeId
    key_size: int
    stored_key_count: int
    max_key_count: int
    max_key_per_request: int
    max_key_size: int
    min_key_size: int
    max_sae_id_count: int
    provenances: tuple[Provenance, ...]
    time_to_empty_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One key operation. Fields are identifiers and counts, never key bytes or their hashes."""

    action: str
    fields: dict[str, str | int | float | list[str]]


class RefreshState(StrEnum):
    """`architecture.md`, section 5; ``aborted`` only before ``committed``.

    ``retired``: done, and the grace that followed the next generation is over.
    ``superseded``: given up by an operator after ``committed``; the next generation replaces it.
    """

    DRAWN = "drawn"
    PREPARED = "prepared"
    COMMITTED = "committed"
    PUBLISHED = "published"
    DONE = "done"
    RETIRED = "retired"
    ABORTED = "aborted"
    BLOCKED = "blocked"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRun:
    """One generation of one policy at one site.

    ``changed_at``: when the store made the last move; it names no run, so it is not compared.
    """

    run_id: str
    policy: str
    generation: Generation
    key_id: KeyId
    state: RefreshState
    native_version: int | None = None
    reason: str | None = None
    changed_at: float = field(default=0.0, compare=False)
