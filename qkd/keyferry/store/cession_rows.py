"""Ranges that changed their owner, as rows, and what is free of those that this site gained."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

from keyferry.store.transaction import Transaction
from qkd_core.types.agreement import Cession
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.keys import KeyRange


def cessions_of(connection: sqlite3.Connection, block_id: BlockId) -> tuple[Cession, ...]:
    """Oldest first."""
    rows = connection.execute(
        "SELECT start, stop, owner FROM cessions INDEXED BY cessions_block"
        " WHERE block_id = ? ORDER BY position",
        (block_id,),
    )
    return tuple(
        Cession(KeyRange(block_id, start, stop), Side(owner)) for start, stop, owner in rows
    )


def cessions_by_block(
    connection: sqlite3.Connection, blocks: Iterable[BlockId]
) -> dict[BlockId, tuple[Cession, ...]]:
    return {block_id: cessions_of(connection, block_id) for block_id in blocks}


def gained_runs(connection: sqlite3.Connection) -> Iterator[KeyRange]:
    """What is free of the ranges that this site gained, oldest block first."""
    rows = connection.execute(
        "SELECT block_id, next, free_stop FROM cessions INDEXED BY cessions_free"
        " WHERE next < free_stop ORDER BY block_id, next"
    )
    with closing(rows):
        for block_id, start, stop in rows:
            yield KeyRange(BlockId(block_id), start, stop)


def gained_free_bytes(connection: sqlite3.Connection) -> int:
    row = connection.execute(
        "SELECT coalesce(sum(free_stop - next), 0) FROM cessions INDEXED BY cessions_free"
        " WHERE next < free_stop"
    ).fetchone()
    return int(row[0])


def gained_provenances(connection: sqlite3.Connection) -> set[Provenance]:
    rows = connection.execute(
        "SELECT DISTINCT provenance FROM cessions INDEXED BY cessions_free"
        " JOIN blocks USING (block_id) WHERE next < free_stop"
    )
    return {Provenance(row[0]) for row in rows}


def advance_gained(tx: Transaction, part: KeyRange) -> Provenance | None:
    """Move a gained run's next free byte past ``part``; None when no gained run begins with it."""
    changed = tx.write(
        "UPDATE cessions SET next = ? WHERE block_id = ? AND next = ? AND free_stop >= ?",
        *(part.stop, part.block_id, part.start, part.stop),
    )
    if not changed:
        return None
    row = tx.connection.execute(
        "SELECT provenance FROM blocks WHERE block_id = ?", (part.block_id,)
    ).fetchone()
    return Provenance(row[0])


def insert_given(tx: Transaction, cession: Cession) -> None:
    _insert(tx, cession, cession.part.stop)


def insert_gained(tx: Transaction, cession: Cession) -> None:
    _insert(tx, cession, cession.part.start)


def _insert(tx: Transaction, cession: Cession, first_free: int) -> None:
    part = cession.part
    tx.write(
        "INSERT INTO cessions (block_id, start, stop, owner, next, free_stop)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        *(part.block_id, part.start, part.stop, cession.owner.value, first_free, part.stop),
    )


def forget_gained(tx: Transaction, block_id: BlockId) -> None:
    """A destroyed block has nothing free."""
    tx.write(
        "UPDATE cessions SET next = free_stop WHERE block_id = ? AND next < free_stop", block_id
    )
