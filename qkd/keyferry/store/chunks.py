"""The stored bytes of a block, sealed in chunks of 512 bytes.

A chunk that loses bytes is sealed anew with zeros in their place; one that has lost all of its
bytes is deleted.
"""

import sqlite3
from collections.abc import Sequence

from keyferry.store.sealing import Seal
from keyferry.store.transaction import Transaction
from qkd_core.errors import StoreDamaged
from qkd_core.types.ids import BlockId
from qkd_core.types.keys import KeyRange

CHUNK_BYTES = 512


def put_chunks(tx: Transaction, block_id: BlockId, stored: bytes) -> None:
    """Seal the stored bytes of a new block."""
    parts = [stored[at : at + CHUNK_BYTES] for at in range(0, len(stored), CHUNK_BYTES)]
    epoch, sealed = tx.close_numbered(parts, "chunk", block_id)
    rows = [
        (block_id, chunk, len(part), epoch, box)
        for chunk, (part, box) in enumerate(zip(parts, sealed, strict=True))
    ]
    tx.insert("chunks (block_id, chunk, n_left, epoch, sealed)", rows)


def cut_out(tx: Transaction, ranges: Sequence[KeyRange]) -> bytes:
    """The bytes of ``ranges``, in order; the store has them no more. Raises StoreDamaged."""
    secret = bytearray()
    for part in ranges:
        for chunk in range(part.start // CHUNK_BYTES, (part.stop - 1) // CHUNK_BYTES + 1):
            first = chunk * CHUNK_BYTES
            start = max(part.start - first, 0)
            stop = min(part.stop - first, CHUNK_BYTES)
            secret += _cut_from_chunk(tx, part.block_id, chunk, slice(start, stop))
    return bytes(secret)


def _cut_from_chunk(tx: Transaction, block_id: BlockId, chunk: int, part: slice) -> bytearray:
    row = tx.connection.execute(
        "SELECT n_left, epoch, sealed FROM chunks WHERE block_id = ? AND chunk = ?",
        (block_id, chunk),
    ).fetchone()
    if row is None:
        raise StoreDamaged(f"chunk {chunk} of block {block_id} is gone")
    data = bytearray(tx.open(row[1], row[2], "chunk", block_id, chunk))
    cut = data[part]
    n_left = row[0] - len(cut)
    if n_left <= 0:
        tx.write("DELETE FROM chunks WHERE block_id = ? AND chunk = ?", block_id, chunk)
    else:
        data[part] = bytes(len(cut))
        epoch, sealed = tx.close(bytes(data), "chunk", block_id, chunk)
        tx.write(
            "UPDATE chunks SET n_left = ?, epoch = ?, sealed = ? WHERE block_id = ? AND chunk = ?",
            *(n_left, epoch, sealed, block_id, chunk),
        )
    return cut


def read_range(connection: sqlite3.Connection, seal: Seal, part: KeyRange) -> bytes:
    """Bytes that stay in the store. Raises StoreDamaged."""
    first, last = part.start // CHUNK_BYTES, (part.stop - 1) // CHUNK_BYTES
    rows = connection.execute(
        "SELECT chunk, epoch, sealed FROM chunks WHERE block_id = ? AND chunk BETWEEN ? AND ?"
        " ORDER BY chunk",
        (part.block_id, first, last),
    ).fetchall()
    if len(rows) != last - first + 1:
        raise StoreDamaged(f"chunks of block {part.block_id} are gone")
    data = b"".join(
        seal.open(connection, epoch, sealed, "chunk", part.block_id, chunk)
        for chunk, epoch, sealed in rows
    )
    begin = part.start - first * CHUNK_BYTES
    return data[begin : begin + part.stop - part.start]


def reseal_chunks(tx: Transaction, epoch: int, limit: int) -> int:
    """Move up to ``limit`` chunks of ``epoch`` to the current one; returns how many."""
    rows = tx.connection.execute(
        "SELECT block_id, chunk, sealed FROM chunks WHERE epoch = ? LIMIT ?", (epoch, limit)
    ).fetchall()
    for block_id, chunk, sealed in rows:
        data = tx.open(epoch, sealed, "chunk", block_id, chunk)
        new_epoch, box = tx.close(data, "chunk", block_id, chunk)
        tx.write(
            "UPDATE chunks SET epoch = ?, sealed = ? WHERE block_id = ? AND chunk = ?",
            *(new_epoch, box, block_id, chunk),
        )
    return len(rows)


def erase_chunks(tx: Transaction, block_id: BlockId) -> None:
    """Delete what is left of the block's stored bytes."""
    tx.write("DELETE FROM chunks WHERE block_id = ?", block_id)
