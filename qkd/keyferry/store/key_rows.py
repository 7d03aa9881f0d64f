"""Keys as rows: what is recorded of an allocation, and the moves between the states of a key."""

import json
import sqlite3
from collections.abc import Sequence

from keyferry.store.sealing import Seal
from keyferry.store.transaction import Transaction
from qkd_core.errors import KeyNotFound
from qkd_core.keys.allocation import described
from qkd_core.keys.lifecycle import UNKNOWN, KeyState, check_key_move
from qkd_core.types.ids import BlockId, KeyId, LinkId, Provenance, SaeId, Side
from qkd_core.types.keys import Allocation, DeliveredKey, KeyRange


def insert_keys(
    tx: Transaction, keys: Sequence[tuple[Allocation, Provenance]], state: KeyState
) -> None:
    """Record new keys and the ranges they take, which the caller has checked to be free."""
    for allocation, _ in keys:
        check_key_move(allocation.key_id, None, state)
    tx.insert("keys", [_key_row(allocation, provenance, state) for allocation, provenance in keys])
    tx.insert(
        "taken",
        [
            (part.block_id, part.start, part.stop, allocation.key_id)
            for allocation, _ in keys
            for part in allocation.ranges
        ],
    )


def _key_row(allocation: Allocation, provenance: Provenance, state: KeyState) -> tuple[object, ...]:
    return (
        allocation.key_id,
        state.value,
        allocation.owner.value,
        allocation.master,
        json.dumps(allocation.slaves),
        json.dumps([(part.block_id, part.start, part.stop) for part in allocation.ranges]),
        allocation.n_bits,
        allocation.expires_at,
        provenance.value,
    )


def taken_by(connection: sqlite3.Connection, part: KeyRange) -> KeyId | None:
    """A key that was ever recorded with some byte of ``part``."""
    # Recorded ranges do not overlap each other: the last one that starts before our end decides.
    row = connection.execute(
        "SELECT stop, key_id FROM taken WHERE block_id = ? AND start < ?"
        " ORDER BY start DESC LIMIT 1",
        (part.block_id, part.stop),
    ).fetchone()
    return KeyId(row[1]) if row is not None and row[0] > part.start else None


def keep_secret(tx: Transaction, key_id: KeyId, secret: bytes) -> None:
    """Seal the bytes of a held key under its ID."""
    epoch, sealed = tx.close(secret, "key", key_id)
    tx.write("INSERT INTO held VALUES (?, ?, ?)", key_id, epoch, sealed)


def reseal_held(tx: Transaction, epoch: int, limit: int) -> int:
    """Move up to ``limit`` held keys of ``epoch`` to the current one; returns how many."""
    rows = tx.connection.execute(
        "SELECT key_id, sealed FROM held WHERE epoch = ? LIMIT ?", (epoch, limit)
    ).fetchall()
    for key_id, sealed in rows:
        new_epoch, box = tx.close(tx.open(epoch, sealed, "key", key_id), "key", key_id)
        tx.write("UPDATE held SET epoch = ?, sealed = ? WHERE key_id = ?", new_epoch, box, key_id)
    return len(rows)


def move_key(tx: Transaction, key_id: KeyId, state: KeyState) -> None:
    """From held to ``state``: its bytes leave the store. Raises ValueError for any other move."""
    before = tx.connection.execute("SELECT state FROM keys WHERE key_id = ?", (key_id,)).fetchone()
    check_key_move(key_id, KeyState(before[0]), state)
    tx.write("UPDATE keys SET state = ? WHERE key_id = ?", state.value, key_id)
    tx.write("DELETE FROM held WHERE key_id = ?", key_id)
    if tx.witnessed:
        tx.write("DELETE FROM fresh WHERE key_id = ?", key_id)


def allocation_of(
    connection: sqlite3.Connection, link_id: LinkId, key_id: KeyId
) -> Allocation | None:
    row = connection.execute(
        "SELECT key_id, owner, master, slaves, ranges, n_bits, expires_at FROM keys"
        " WHERE key_id = ?",
        (key_id,),
    ).fetchone()
    return None if row is None else allocation_from(link_id, row)


def allocation_from(link_id: LinkId, row: tuple[str, str, str, str, str, int, float]) -> Allocation:
    """The allocation in a row of key_id, owner, master, slaves, ranges, n_bits, expires_at."""
    key_id, owner, master, slaves, ranges, n_bits, expires_at = row
    return Allocation(
        key_id=KeyId(key_id),
        link_id=link_id,
        owner=Side(owner),
        master=SaeId(master),
        slaves=tuple(SaeId(slave) for slave in json.loads(slaves)),
        ranges=tuple(KeyRange(BlockId(b), start, stop) for b, start, stop in json.loads(ranges)),
        n_bits=n_bits,
        expires_at=expires_at,
    )


def held_key(connection: sqlite3.Connection, seal: Seal, key_id: KeyId) -> DeliveredKey:
    """The bytes of a held key. Raises KeyNotFound."""
    row = connection.execute(
        "SELECT state, provenance, epoch, sealed FROM keys LEFT JOIN held USING (key_id)"
        " WHERE key_id = ?",
        (key_id,),
    ).fetchone()
    if row is None or row[0] != KeyState.ALLOCATED:
        raise KeyNotFound(f"key {key_id} is {row[0] if row else UNKNOWN}, not held")
    secret = seal.open(connection, row[2], row[3], "key", key_id)
    return DeliveredKey(key_id=key_id, secret=secret, provenance=Provenance(row[1]))


def audit_key(tx: Transaction, action: str, allocation: Allocation) -> None:
    """The record of one move of one key."""
    tx.audit(
        action,
        key_id=allocation.key_id,
        owner=allocation.owner.value,
        master=allocation.master,
        slaves=list(allocation.slaves),
        n_bits=allocation.n_bits,
        ranges=described(allocation.ranges),
        expires_at=allocation.expires_at,
    )
