"""`RecordStore` in memory."""

from collections.abc import Callable, Sequence

from keyferry.store.memory.blocks import MemoryBlocks
from keyferry.store.memory.site import MemorySite
from qkd_core.errors import KeyNotFound
from qkd_core.types.agreement import BlockRecord, PadMarks, TakenRange
from qkd_core.types.ids import BlockId
from qkd_core.types.keys import BlockLayout, BlockState, KeyRange


class MemoryRecords:
    def __init__(
        self, site: MemorySite, blocks: MemoryBlocks, marks: Callable[[], PadMarks]
    ) -> None:
        self._site, self._blocks, self._marks = site, blocks, marks

    def unspent(self) -> tuple[BlockId, ...]:
        return self._blocks.unspent()

    def records(self, blocks: Sequence[BlockId]) -> tuple[BlockRecord, ...]:
        with self._site.lock:
            return tuple(self._record(block_id) for block_id in blocks)

    def read_free(self, ranges: Sequence[KeyRange]) -> bytes:
        with self._site.lock:
            return b"".join(self._free(part) for part in ranges)

    def note_differences(self, found: Sequence[str]) -> None:
        for what in found:
            self._site.alarms["difference"] += 1
            self._site.audit("difference_found", detail=what)

    def note_reconciled(self, n_blocks: int, n_bytes: int, n_differences: int) -> None:
        self._site.audit("reconciled", blocks=n_blocks, bytes=n_bytes, differences=n_differences)

    def pad_marks(self) -> PadMarks:
        return self._marks()

    def _record(self, block_id: BlockId) -> BlockRecord:
        block = self._site.block(block_id)
        if block is None:
            nothing = BlockLayout(n_secret=0, segment_pads=0)
            return BlockRecord(
                block_id=block_id, state=BlockState.NONE, layout=nothing, taken=(), cessions=()
            )
        taken = [
            TakenRange(part, key_id, key.allocation.owner, key_id not in self._site.outbox)
            for key_id, key in self._site.keys.items()
            for part in key.allocation.ranges
            if part.block_id == block_id
        ]
        return BlockRecord(
            block_id=block_id,
            state=block.state,
            layout=block.new.layout,
            taken=tuple(sorted(taken)),
            cessions=tuple(block.cessions),
        )

    def _free(self, part: KeyRange) -> bytes:
        block = self._site.block(part.block_id)
        if block is None or block.state is not BlockState.AVAILABLE:
            raise KeyNotFound(f"block {part.block_id} is not available here")
        whole = 0 <= part.start < part.stop <= block.new.layout.stored_bytes
        if not whole or any(block.recorded[part.start : part.stop]):
            raise KeyNotFound(f"bytes {part.start} to {part.stop} are not free")
        return bytes(block.stored[part.start : part.stop])
