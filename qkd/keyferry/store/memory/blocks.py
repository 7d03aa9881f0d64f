"""`BlockStore` in memory."""

from collections.abc import Iterator

from keyferry.store.memory.pads import MemoryPads
from keyferry.store.memory.site import MemoryBlock, MemorySite
from keyferry.store.segments import cut_segment
from qkd_core.errors import BlockDiscarded
from qkd_core.keys.allocation import cut_block
from qkd_core.proofs.ledger import block_units
from qkd_core.types.authentication import Lane
from qkd_core.types.epsilon import Spender
from qkd_core.types.figures import PairLight
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.keys import BlockState, KeyRange, NewBlock
from qkd_core.types.plans import SecurityPolicy
from qkd_core.types.witness import OpenPart


class MemoryBlocks:
    def __init__(self, site: MemorySite, pads: MemoryPads) -> None:
        self._site, self._pads = site, pads

    def newest(self) -> BlockId:
        return self._site.newest

    def note_used(self, block_id: BlockId) -> None:
        with self._site.lock:
            self._site.newest = max(self._site.newest, block_id)

    def begin(self, block_id: BlockId, policy: SecurityPolicy) -> None:
        site = self._site
        with site.lock:
            if block_id <= site.newest:
                raise BlockDiscarded(f"the number of block {block_id} was used before")
            site.newest = block_id
            site.ledger = site.ledger.spending(Spender.BLOCK, block_units(policy), 1)
            site.audit("block_begun", block_id=block_id)
            site.raise_epsilon_alarm_if_due()

    def state(self, block_id: BlockId) -> BlockState:
        block = self._site.block(block_id)
        return block.state if block else BlockState.NONE

    def pending(self) -> tuple[BlockId, ...]:
        with self._site.lock:
            blocks = sorted(self._site.blocks.items())
            return tuple(i for i, block in blocks if block.state is BlockState.PENDING)

    def store_pending(self, block: NewBlock) -> None:
        site, block_id = self._site, block.block_id
        with site.lock:
            known = site.block(block_id)
            if known and known.state is BlockState.DESTROYED:
                raise BlockDiscarded(f"block {block_id} is destroyed here")
            if known and (known.new.plan_digest, known.new.layout) != (
                block.plan_digest,
                block.layout,
            ):
                raise ValueError(f"another block is stored under number {block_id}")
            if known:
                return
            parts = cut_block(block)
            kept = MemoryBlock(
                block,
                bytearray(parts.stored),
                [False] * len(parts.stored),
                stored_at=site.clock.now(),
            )
            site.blocks[block_id] = kept
            site.newest = max(site.newest, block_id)
            for sender, data in parts.segments.items():
                self._pads.add(cut_segment(sender, Lane.POOL, block_id, data))
            site.audit("block_pending", block_id=block_id, n_secret=block.layout.n_secret)

    def make_available(self, block_id: BlockId) -> None:
        with self._site.lock:
            self._site.make_available(block_id)

    def destroy(self, block_id: BlockId, reason: str) -> None:
        with self._site.lock:
            block = self._site.block(block_id)
            if block is None or block.state is BlockState.DESTROYED:
                return
            block.move(BlockState.DESTROYED)
            block.stored[:] = bytes(len(block.stored))
            self._pads.drop(block_id)
            self._site.outcomes["destroyed"] += 1
            self._site.audit("block_destroyed", block_id=block_id, reason=reason)

    def record_discarded(self, block_id: BlockId, reason: str, detail: str) -> None:
        with self._site.lock:
            self._site.newest = max(self._site.newest, block_id)
            self._site.outcomes[reason] += 1
            self._site.last_discard = f"{reason}: {detail}"
            self._site.audit("block_discarded", block_id=block_id, reason=reason, detail=detail)

    def free_bytes(self) -> int:
        return self.free_of(self._site.side)

    def free_of(self, owner: Side) -> int:
        with self._site.lock:
            return sum(len(block.free_in(owner)) for block in self.available())

    def provenances(self) -> tuple[Provenance, ...]:
        with self._site.lock:
            mine = [block for block in self.available() if block.free_in(self._site.side)]
            return tuple(sorted({block.new.provenance for block in mine}))

    def unspent(self) -> tuple[BlockId, ...]:
        with self._site.lock:
            return tuple(
                block.new.block_id
                for block in self.available()
                if any(block.free_in(side) for side in Side)
            )

    def stored_bytes(self) -> int:
        return sum(self.free_of(side) for side in Side)

    def note_paused(self, paused: bool) -> None:
        with self._site.lock:
            if paused != self._site.paused:
                self._site.paused = paused
                self._site.audit("link_paused" if paused else "link_resumed")

    def note_light(self, light: PairLight) -> None:
        with self._site.lock:
            self._site.light = light

    def free_runs(self) -> Iterator[KeyRange]:
        """This site's free bytes as runs, oldest block first."""
        for block in self.available():
            first = None
            free = block.free_in(self._site.side)
            for place, i in enumerate(free):
                first = i if first is None else first
                last = place + 1 == len(free) or free[place + 1] != i + 1
                if last or block.piece(i) != block.piece(i + 1):
                    yield KeyRange(block.new.block_id, first, i + 1)
                    first = None

    def open_parts(self) -> Iterator[OpenPart]:
        """As `free_runs`, with how far this site may cut each by itself."""
        for run in self.free_runs():
            opened = self._site.blocks[run.block_id].opened
            stop = next((i for i in range(run.start, run.stop) if i not in opened), run.stop)
            yield OpenPart(run.block_id, run.start, stop, run.stop)

    def open_runs(self) -> Iterator[KeyRange]:
        """What this site may cut by itself."""
        for part in self.open_parts():
            if part.start < part.open_stop:
                yield KeyRange(part.block_id, part.start, part.open_stop)

    def closed_runs(self) -> Iterator[KeyRange]:
        """What is free, and cannot have been cut by a later state of this store."""
        for part in self.open_parts():
            if part.open_stop < part.stop:
                yield KeyRange(part.block_id, part.open_stop, part.stop)

    def available(self) -> list[MemoryBlock]:
        """Oldest first."""
        blocks = sorted(self._site.blocks.items())
        return [block for _, block in blocks if block.state is BlockState.AVAILABLE]
