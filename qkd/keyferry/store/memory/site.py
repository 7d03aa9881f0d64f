"""What the in-memory ports of one site share. Every stored byte knows whether a key ever had it."""

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field, replace
from secrets import token_hex
from threading import RLock
from uuid import uuid4

from keyferry.store.segments import SegmentBytes
from qkd_core.errors import BlockDiscarded, PeerUnavailable, RolledBack
from qkd_core.keys.lifecycle import KeyState, Subject, check_move
from qkd_core.ports import Clock
from qkd_core.proofs.ledger import TAG_UNITS, Ledger
from qkd_core.types.agreement import Cession, Notice
from qkd_core.types.authentication import PAD_BYTES, Lane, Pad, PadName
from qkd_core.types.comparing import Comparison, OpenComparison
from qkd_core.types.epsilon import Spender
from qkd_core.types.figures import PairLight
from qkd_core.types.ids import BlockId, KeyId, LinkId, Provenance, SaeId, Side
from qkd_core.types.keys import Allocation, AuditEvent, BlockState, NewBlock, RefreshRun
from qkd_core.types.refresh import ActiveEvent, PolicyState, RunStep
from qkd_core.types.witness import ChainHead, Remembered, SiteState

NO_BLOCK = BlockId(0)
WRITER = "memory"  # the one writer of its audit

SegmentName = tuple[Side, Lane, BlockId]


@dataclass(slots=True)
class MemoryBlock:
    """A block; ``recorded[i]`` says whether stored byte i was ever part of a key.

    cessions  ranges that changed their owner, oldest first
    opened    bytes that this site may cut by itself, as its peer has acknowledged
    lent      bytes that the peer may cut by itself, as this site has acknowledged
    passed    of those, what it may have cut without telling: not lent again
    """

    new: NewBlock
    stored: bytearray = field(repr=False)
    recorded: list[bool]
    stored_at: float = 0.0
    state: BlockState = BlockState.PENDING
    cessions: list[Cession] = field(default_factory=list)
    opened: set[int] = field(default_factory=set)
    lent: set[int] = field(default_factory=set)
    passed: set[int] = field(default_factory=set)

    def free_in(self, owner: Side) -> list[int]:
        """Indices of the owner's bytes that no key ever had, ascending."""
        start, stop = self.new.layout.half(owner)
        owned = set(range(start, stop))
        for cession in self.cessions:
            moved = range(cession.part.start, cession.part.stop)
            owned = owned.union(moved) if cession.owner is owner else owned.difference(moved)
        return [i for i in sorted(owned) if not self.recorded[i]]

    def piece(self, i: int) -> int:
        """Which cession byte i came with, newest first in doubt; -1: none, it is its half's."""
        if not self.cessions:
            return -1
        came = [
            n for n, ceded in enumerate(self.cessions) if ceded.part.start <= i < ceded.part.stop
        ]
        return max(came, default=-1)

    def move(self, state: BlockState) -> None:
        check_move(Subject.BLOCK, self.new.block_id, self.state.value, state.value)
        self.state = state


@dataclass(slots=True)
class MemoryKey:
    """A key at this site; ``secret`` is empty unless it is held."""

    allocation: Allocation
    provenance: Provenance
    secret: bytes = field(default=b"", repr=False)
    state: KeyState | None = None
    served: set[SaeId] = field(default_factory=set)


@dataclass(slots=True)
class MemorySegment:
    """The pads of one direction and lane of one segment.

    next    as sender, the first index not taken; as receiver, the first above the mark
    opened  as sender, how far this site may take pads by itself
    lent    as receiver, how far the peer may; below ``passed`` it may have, without telling
    """

    data: SegmentBytes
    next: int = 0
    proved: bool = False
    burnt: set[int] = field(default_factory=set)
    opened: int = 0
    lent: int = 0
    passed: int = 0

    def pad(self, name: PadName) -> Pad:
        at = PAD_BYTES * name.index
        return Pad(name, self.data.hash_key, self.data.pads[at : at + PAD_BYTES])

    @property
    def left(self) -> int:
        spent = {index for index in self.burnt if index >= self.next}
        return self.data.n_pads - self.next - len(spent)


@dataclass(slots=True)
class MemoryProgress:
    """What a site knows of itself; ``reason``: why it is rolled back."""

    incarnation: str = field(default_factory=lambda: str(uuid4()))
    era: int = 0
    state: SiteState = SiteState.NEW
    reason: str | None = None
    closing: bool = False


@dataclass(slots=True, kw_only=True)
class MemorySite:
    """All that one site has. What a database would keep in a file is here, and nowhere else.

    marks    a random name for each record of ``events``: no two stores have the same by chance
    heeded   notices of the peer that took effect here, or why they never will
    fresh    held keys of the peer that may be consumed without asking it, and since when
    secrets  pre-shared ones that were ever installed; ``secret``: the one that is
    """

    link_id: LinkId
    side: Side
    clock: Clock
    lock: RLock = field(default_factory=RLock)
    events: list[AuditEvent] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    witnessed: bool = False
    own: MemoryProgress = field(default_factory=MemoryProgress)
    peer: Remembered = field(default_factory=Remembered)
    fresh: dict[KeyId, float] = field(default_factory=dict)
    segments: dict[SegmentName, MemorySegment] = field(default_factory=dict)
    secret: bytes | None = field(default=None, repr=False)
    secrets: set[bytes] = field(default_factory=set, repr=False)
    notices: list[Notice] = field(default_factory=list)
    heeded: dict[str, str | None] = field(default_factory=dict)
    refreshes: dict[str, RefreshRun] = field(default_factory=dict)
    refresh_steps: dict[str, list[RunStep]] = field(default_factory=dict)
    policies: dict[str, PolicyState] = field(default_factory=dict)
    too_old: dict[str, int] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    comparison_requests: dict[str, OpenComparison] = field(default_factory=dict)
    active_events: list[ActiveEvent] = field(default_factory=list)
    fence: int = 0
    newest: BlockId = NO_BLOCK
    blocks: dict[BlockId, MemoryBlock] = field(default_factory=dict)
    keys: dict[KeyId, MemoryKey] = field(default_factory=dict)
    outbox: list[KeyId] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    paused: bool = False
    light: PairLight | None = None
    orphaned_keys: int = 0
    secret_bits: int = 0
    keys_delivered: int = 0
    last_discard: str | None = None
    drawn: list[tuple[float, SaeId, int]] = field(default_factory=list)
    bytes_passed_over: int = 0
    pads_passed_over: int = 0
    keys_burnt_unclean: int = 0
    ledger: Ledger = field(default_factory=Ledger)

    def copy(self) -> "MemorySite":
        """The site as it stands, going its own way from now on."""
        with self.lock:
            return deepcopy(self, {id(self.lock): RLock(), id(self.clock): self.clock})

    def audit(self, action: str, **fields: str | int | float | list[str]) -> None:
        self.events.append(AuditEvent(action=action, fields=fields))
        self.marks.append(token_hex(8))

    def spend_tags(self, n_tags: int) -> None:
        """So many pads were marked used, verified or burnt."""
        self.ledger = self.ledger.spending(Spender.TAG, TAG_UNITS, n_tags)

    def raise_epsilon_alarm_if_due(self) -> None:
        if self.ledger.alarm_is_due:
            self.ledger = replace(self.ledger, alarmed=True)
            self.alarms["epsilon"] += 1
            self.audit("epsilon_alarm", spent=self.ledger.spent)

    def heads(self) -> dict[str, ChainHead]:
        """The newest record, by its writer."""
        return {WRITER: ChainHead(1, len(self.marks), self.marks[-1])} if self.marks else {}

    def has_record(self, role: str, head: ChainHead) -> bool:
        return (role, head.number) == (WRITER, 1) and self.marks[head.seq - 1 : head.seq] == [
            head.hash
        ]

    def require_open(self) -> None:
        """Raises RolledBack, PeerUnavailable when the site is witnessed and may not act."""
        if self.witnessed and self.own.state is SiteState.ROLLED_BACK:
            raise RolledBack(f"this site is rolled back: {self.own.reason}")
        if self.witnessed and self.own.state is not SiteState.OPEN:
            raise PeerUnavailable(f"this site is {self.own.state}: it waits for the peer's KME")

    def block(self, block_id: BlockId) -> MemoryBlock | None:
        return self.blocks.get(block_id)

    def make_available(self, block_id: BlockId) -> None:
        block = self.block(block_id)
        if block is None or block.state is BlockState.DESTROYED:
            state = block.state if block else BlockState.NONE
            raise BlockDiscarded(f"block {block_id} is {state} here, not available")
        if block.state is BlockState.PENDING:
            block.move(BlockState.AVAILABLE)
            self.outcomes["available"] += 1
            self.secret_bits += block.new.layout.n_secret
            self.audit("block_available", block_id=block_id)
