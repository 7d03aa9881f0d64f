"""What the two KMEs tell each other about stored bytes, beside allocations."""

from dataclasses import dataclass, field

from qkd_core.types.ids import BlockId, KeyId, Side
from qkd_core.types.keys import Allocation, BlockLayout, BlockState, KeyRange


@dataclass(frozen=True, slots=True)
class Cession:
    """A free range that changes its owner for good; ``owner`` is the new one."""

    part: KeyRange
    owner: Side


@dataclass(frozen=True, slots=True)
class BurntKey:
    """A key that nobody shall have any more. The allocation comes along: it may be news."""

    allocation: Allocation
    reason: str


@dataclass(frozen=True, slots=True)
class DestroyedBlock:
    """A block of which both sites erase what is left."""

    block_id: BlockId
    reason: str


@dataclass(frozen=True, slots=True)
class ZeroisedLink:
    """All stored bytes, held keys and pads of blocks up to ``newest`` are erased at both sites."""

    newest: BlockId
    reason: str


Deed = Cession | BurntKey | DestroyedBlock | ZeroisedLink


@dataclass(frozen=True, slots=True)
class Notice:
    """A deed that is done at this site and waits to be told, or one that the peer tells.

    ``notice_id``: a random UUID; the receiver acts on it once.
    """

    notice_id: str
    deed: Deed


@dataclass(frozen=True, slots=True, order=True)
class TakenRange:
    """Bytes that a key had. ``told``: its allocator has the other site's acknowledgement.

    What this site knows of the peer's keys counts as told.
    """

    part: KeyRange
    key_id: KeyId
    owner: Side
    told: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRecord:
    """What one site has on record of one block; no bits."""

    block_id: BlockId
    state: BlockState
    layout: BlockLayout
    taken: tuple[TakenRange, ...]  # in the order of their bytes
    cessions: tuple[Cession, ...]  # oldest first


PadMarks = dict[tuple[Side, int, BlockId], int]  # by sender, lane and segment


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """What one site shows of itself when records are compared."""

    newest: BlockId
    records: tuple[BlockRecord, ...]
    pad_marks: PadMarks


@dataclass(frozen=True, slots=True, kw_only=True)
class HashQuestion:
    """A universal hash of free bytes: ``key`` is a one-time key of the common stock.

    Its first half is the point of the polynomial, its second half the pad over the value.
    """

    key: Allocation
    ranges: tuple[KeyRange, ...]
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HashVerdict:
    """``equal`` is None when some blocks could not be read whole: they moved, or are damaged."""

    equal: bool | None
    moved: tuple[BlockId, ...] = ()
    damaged: tuple[BlockId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairOrder:
    """What the peer is to burn: ``lost`` are blocks that the asking site does not have."""

    destroy: tuple[BlockId, ...] = ()
    lost: dict[BlockId, BlockState] = field(default_factory=dict)
    burn: tuple[KeyId, ...] = ()
