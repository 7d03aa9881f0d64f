"""What two sites know of each other's progress, so that an old copy of a store is recognised."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId
from qkd_core.types.keys import KeyRange


@dataclass(frozen=True, slots=True, order=True)
class ChainHead:
    """The newest audit record of one writer: the number of its chain, its place there, its hash."""

    number: int
    seq: int
    hash: str


class SiteState(StrEnum):
    """``new``: never met its peer. Only an open site delivers, consumes and tags."""

    NEW = "new"
    OPEN = "open"
    CLOSED = "closed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """How far a site is. It goes with every message between the two KMEs.

    Allocating, consuming and marking pads each write their audit record in the transaction of
    their effect, so the newest records stand for all three.

    incarnation  a random UUID, made with the store and made anew when it starts empty
    era          how often the peer saw this site start without knowing how it had ended
    heads        the newest audit record of each writer, by its role
    closing      the site is being stopped, or is stopped
    """

    incarnation: str
    era: int
    heads: Mapping[str, ChainHead]
    state: SiteState
    closing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a site durably remembers of its peer. ``incarnation``: None before they met.

    ``refused``: an incarnation of before the last rekey, which is never adopted again.
    """

    incarnation: str | None = None
    refused: str | None = None
    era: int = 0
    heads: Mapping[str, ChainHead] = field(default_factory=dict)
    state: SiteState = SiteState.NEW
    closing: bool = False


class Proof(StrEnum):
    """Why a site that starts may know what it had done before.

    first      it never did anything
    evidence   its machine ran on, and has evidence of every record since
    closed     it was stopped in an orderly way, and the peer acknowledged that
    none       it does not know: a loss of power, or a copy of the store was put back
    """

    FIRST = "first"
    EVIDENCE = "evidence"
    CLOSED = "closed"
    NONE = "none"


@dataclass(frozen=True, slots=True, order=True)
class PadRun:
    """Pads ``start`` to ``stop`` of one segment, in the direction of whoever asked."""

    lane: Lane
    segment: BlockId
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Runs:
    """What a site wants to cut and use by itself, or may: bytes of its own, and pads."""

    ranges: tuple[KeyRange, ...] = ()
    pads: tuple[PadRun, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ranges or self.pads)


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A run of free bytes from ``start`` on: open up to ``open_stop``, free up to ``stop``."""

    block_id: BlockId
    start: int
    open_stop: int
    stop: int


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """A segment to send with: pads from ``first`` on, open up to ``open_stop``, in all ``stop``."""

    lane: Lane
    segment: BlockId
    first: int
    open_stop: int
    stop: int
