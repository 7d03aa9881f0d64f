"""What the in-memory ports of one site share. Every stored byte knows whether a key ever had it."""

from collections import Counter
from dataclasses import dataclass, field
from threading import RLock

from qkd_core.errors import BlockDiscarded
from qkd_core.keys.lifecycle import KeyState
from qkd_core.ports import Clock
from qkd_core.types.ids import BlockId, KeyId, LinkId, Provenance, SaeId, Side
from qkd_core.types.keys import Allocation, AuditEvent, BlockState, NewBlock

NO_BLOCK = BlockId(0)


@dataclass(slots=True)
class MemoryBlock:
    """A block; ``recorded[i]`` says whether stored byte i was ever part of a key."""

    new: NewBlock
    stored: bytearray = field(repr=False)
    recorded: list[bool]
    state: BlockState = BlockState.PENDING

    def free_in(self, owner: Side) -> list[int]:
        """Indices of the owner's half that no key ever had, ascending."""
        start, stop = self.new.layout.half(owner)
        return [i for i in range(start, stop) if not self.recorded[i]]


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
    secret_bits: int = 0
    keys_delivered: int = 0
    last_discard: str | None = None

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
            block.state = BlockState.AVAILABLE
            self.outcomes["available"] += 1
            self.secret_bits += block.new.layout.n_secret
            self.audit("block_available", block_id=block_id)
