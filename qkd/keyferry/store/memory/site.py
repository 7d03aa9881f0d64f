"""What the in-memory ports of one site share. Every stored byte knows whether a key ever had it."""

from collections import Counter
from dataclasses import dataclass, field
from threading import RLock

from qkd_core.errors import BlockDiscarded
from qkd_core.keys.lifecycle import KeyState, Subject, check_move
from qkd_core.ports import Clock
from qkd_core.types.agreement import Cession
from qkd_core.types.ids import BlockId, KeyId, LinkId, Provenance, SaeId, Side
from qkd_core.types.keys import Allocation, AuditEvent, BlockState, NewBlock

NO_BLOCK = BlockId(0)


@dataclass(slots=True)
class MemoryBlock:
    """A block; ``recorded[i]`` says whether stored byte i was ever part of a key.

    ``cessions``: ranges that changed their owner, oldest first.
    """

    new: NewBlock
    stored: bytearray = field(repr=False)
    recorded: list[bool]
    stored_at: float = 0.0
    state: BlockState = BlockState.PENDING
    cessions: list[Cession] = field(default_factory=list)

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


@dataclass(slots=True, kw_only=True)
class MemorySite:
    """What the four ports of one site share."""

    link_id: LinkId
    side: Side
    clock: Clock
    lock: RLock = field(default_factory=RLock)
    events: list[AuditEvent] = field(default_factory=list)
    newest: BlockId = NO_BLOCK
    blocks: dict[BlockId, MemoryBlock] = field(default_factory=dict)
    keys: dict[KeyId, MemoryKey] = field(default_factory=dict)
    outbox: list[KeyId] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    paused: bool = False
    orphaned_keys: int = 0
    secret_bits: int = 0
    keys_delivered: int = 0
    last_discard: str | None = None
    drawn: list[tuple[float, SaeId, int]] = field(default_factory=list)

    def audit(self, action: str, **fields: str | int | float | list[str]) -> None:
        self.events.append(AuditEvent(action=action, fields=fields))

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
