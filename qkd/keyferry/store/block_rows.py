"""Blocks as rows: the moves between their states, for every port that may cause one."""

import sqlite3

from keyferry.store.cession_rows import forget_gained
from keyferry.store.chunks import erase_chunks
from keyferry.store.pad_rows import drop_segments
from keyferry.store.transaction import Transaction
from qkd_core.errors import BlockDiscarded
from qkd_core.types.ids import BlockId
from qkd_core.types.keys import BlockLayout, BlockState


def state_of(connection: sqlite3.Connection, block_id: BlockId) -> BlockState:
    row = connection.execute("SELECT state FROM blocks WHERE block_id = ?", (block_id,)).fetchone()
    return BlockState(row[0]) if row else BlockState.NONE


def layout_of(connection: sqlite3.Connection, block_id: BlockId) -> BlockLayout:
    """The layout of a block that is known here."""
    n_secret, segment_pads = connection.execute(
        "SELECT n_secret, segment_pads FROM blocks WHERE block_id = ?", (block_id,)
    ).fetchone()
    return BlockLayout(n_secret=n_secret, segment_pads=segment_pads)


def note_newest(tx: Transaction, block_id: BlockId) -> bool:
    """Remember the number as used; False when it was, or a later one."""
    changed = tx.write(
        "INSERT INTO tally (name, value) VALUES ('newest_block', ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value < excluded.value",
        block_id,
    )
    return bool(changed)


def make_available(tx: Transaction, block_id: BlockId, cause: str) -> None:
    """From pending; nothing when it is available. Raises BlockDiscarded."""
    state = state_of(tx.connection, block_id)
    if state in (BlockState.NONE, BlockState.DESTROYED):
        raise BlockDiscarded(f"block {block_id} is {state} here, not available")
    make_pending_available(tx, block_id, cause)


def make_pending_available(tx: Transaction, block_id: BlockId, cause: str) -> None:
    """Nothing unless the block is pending."""
    changed = tx.write(
        "UPDATE blocks SET state = 'available' WHERE block_id = ? AND state = 'pending'", block_id
    )
    if changed:
        tx.count("blocks available")
        tx.count("secret_bits", layout_of(tx.connection, block_id).n_secret)
        tx.audit("block_available", block_id=block_id, cause=cause)


def destroy_block(tx: Transaction, block_id: BlockId, reason: str) -> None:
    """Erase what is left; nothing when the block is unknown or destroyed."""
    changed = tx.write(
        "UPDATE blocks SET state = 'destroyed' WHERE block_id = ? AND state <> 'destroyed'",
        block_id,
    )
    if changed:
        erase_chunks(tx, block_id)
        forget_gained(tx, block_id)
        drop_segments(tx, block_id)
        tx.count("blocks destroyed")
        tx.audit("block_destroyed", block_id=block_id, reason=reason)
