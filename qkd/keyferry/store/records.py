"""`RecordStore` over SQLite: what this site has on record of its blocks, and their free bytes."""

import sqlite3
from collections.abc import Sequence

from keyferry.store.blocks import unspent_blocks
from keyferry.store.cession_rows import cessions_of
from keyferry.store.chunks import read_range
from keyferry.store.database import Database
from keyferry.store.key_rows import taken_by
from keyferry.store.transaction import Transaction
from qkd_core.errors import KeyNotFound
from qkd_core.types.agreement import BlockRecord, PadMarks, TakenRange
from qkd_core.types.ids import BlockId, KeyId, Side
from qkd_core.types.keys import BlockLayout, BlockState, KeyRange


class SqliteRecords:
    def __init__(self, database: Database) -> None:
        self._db = database

    def unspent(self) -> tuple[BlockId, ...]:
        return self._db.read(unspent_blocks)

    def records(self, blocks: Sequence[BlockId]) -> tuple[BlockRecord, ...]:
        def question(connection: sqlite3.Connection) -> tuple[BlockRecord, ...]:
            return tuple(_record(connection, block_id) for block_id in blocks)

        return self._db.read(question)

    def read_free(self, ranges: Sequence[KeyRange]) -> bytes:
        def question(connection: sqlite3.Connection) -> bytes:
            for part in ranges:
                _check_free(connection, part)
            return b"".join(read_range(connection, self._db.seal, part) for part in ranges)

        return self._db.read(question)

    def note_differences(self, found: Sequence[str]) -> None:
        def transition(tx: Transaction) -> None:
            for what in found:
                tx.alarm("difference")
                tx.audit("difference_found", detail=what)

        self._db.write(transition)

    def note_reconciled(self, n_blocks: int, n_bytes: int, n_differences: int) -> None:
        def transition(tx: Transaction) -> None:
            tx.note("reconciled_at", int(tx.now))
            tx.audit("reconciled", blocks=n_blocks, bytes=n_bytes, differences=n_differences)

        self._db.write(transition)

    def pad_marks(self) -> PadMarks:
        rows = self._db.rows("SELECT sender, lane, segment, next FROM segments")
        return {
            (Side(str(sender)), int(str(lane)), BlockId(int(str(segment)))): int(str(mark))
            for sender, lane, segment, mark in rows
        }


def _record(connection: sqlite3.Connection, block_id: BlockId) -> BlockRecord:
    row = connection.execute(
        "SELECT state, n_secret, segment_pads FROM blocks WHERE block_id = ?", (block_id,)
    ).fetchone()
    state, n_secret, segment_pads = row or (BlockState.NONE.value, 0, 0)
    taken = connection.execute(
        "SELECT start, stop, key_id, owner, NOT EXISTS ("
        " SELECT 1 FROM outbox WHERE outbox.key_id = taken.key_id)"
        " FROM taken JOIN keys USING (key_id) WHERE block_id = ? ORDER BY start",
        (block_id,),
    )
    return BlockRecord(
        block_id=block_id,
        state=BlockState(state),
        layout=BlockLayout(n_secret=n_secret, segment_pads=segment_pads),
        taken=tuple(
            TakenRange(KeyRange(block_id, start, stop), KeyId(key_id), Side(owner), bool(told))
            for start, stop, key_id, owner, told in taken
        ),
        cessions=cessions_of(connection, block_id),
    )


def _check_free(connection: sqlite3.Connection, part: KeyRange) -> None:
    """Raises KeyNotFound unless all of ``part`` is stored here and in no key."""
    row = connection.execute(
        "SELECT state, n_secret, segment_pads FROM blocks WHERE block_id = ?", (part.block_id,)
    ).fetchone()
    if row is None or row[0] != BlockState.AVAILABLE:
        raise KeyNotFound(f"block {part.block_id} is {row[0] if row else 'none'} here")
    layout = BlockLayout(n_secret=row[1], segment_pads=row[2])
    if not 0 <= part.start < part.stop <= layout.stored_bytes:
        raise KeyNotFound(f"block {part.block_id} has no bytes {part.start} to {part.stop}")
    if taken_by(connection, part) is not None:
        raise KeyNotFound(f"bytes {part.start} to {part.stop} of block {part.block_id} are taken")
