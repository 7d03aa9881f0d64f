"""Keys that wait under their IDs, handed to the SAEs that are entitled to them, once each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from keyferry.store.gate import KeysParked
from keyferry.store.key_rows import held_key, move_key
from keyferry.store.transaction import Transaction
from keyferry.store.witness_rows import require_open
from qkd_core.errors import KeyNotFound, NotAuthorised
from qkd_core.keys.lifecycle import CONSUMED, EXPIRED, UNKNOWN, KeyState, reason_gone
from qkd_core.types.ids import KeyId, SaeId
from qkd_core.types.keys import DeliveredKey


@dataclass(frozen=True, slots=True)
class Call:
    """One SAE asking for keys of one master."""

    slave: SaeId
    master: SaeId
    now: float


def serve(tx: Transaction, call: Call, key_ids: Sequence[KeyId]) -> tuple[DeliveredKey, ...]:
    """All of ``key_ids`` in their order, or none. Raises KeyNotFound, KeysParked, NotAuthorised."""
    if tx.witnessed:
        require_open(tx.connection)
    for key_id in key_ids:
        _check_entitled(tx, call, key_id)
    for key_id in key_ids:
        _check_there(tx, call, key_id)
    if tx.witnessed:
        _check_fresh(tx, key_ids)
    keys = tuple([_hand_out(tx, call, key_id) for key_id in key_ids])
    tx.count("keys_delivered", len(keys))
    return keys


def _check_entitled(tx: Transaction, call: Call, key_id: KeyId) -> None:
    row = tx.connection.execute(
        "SELECT master, slaves FROM keys WHERE key_id = ?", (key_id,)
    ).fetchone()
    if row is None or row[0] != call.master:
        raise KeyNotFound(f"key {key_id} of {call.master} is not known", UNKNOWN)
    if call.slave not in json.loads(row[1]):
        raise NotAuthorised(f"key {key_id} is not for {call.slave}")


def _check_there(tx: Transaction, call: Call, key_id: KeyId) -> None:
    served = tx.connection.execute(
        "SELECT 1 FROM served WHERE key_id = ? AND slave = ?", (key_id, call.slave)
    ).fetchone()
    if served:
        raise KeyNotFound(f"key {key_id} was delivered to {call.slave}", CONSUMED)
    state, expires_at = tx.connection.execute(
        "SELECT state, expires_at FROM keys WHERE key_id = ?", (key_id,)
    ).fetchone()
    if state != KeyState.ALLOCATED:
        raise KeyNotFound(f"key {key_id} is {state}", reason_gone(KeyState(state)))
    if expires_at <= call.now:
        raise KeyNotFound(f"key {key_id} is expired", EXPIRED)


def _check_fresh(tx: Transaction, key_ids: Sequence[KeyId]) -> None:
    """Raises KeysParked for keys that the peer has to release first."""
    parked = [
        key_id
        for key_id in key_ids
        if tx.connection.execute("SELECT 1 FROM fresh WHERE key_id = ?", (key_id,)).fetchone()
        is None
    ]
    if parked:
        raise KeysParked(parked)


def _hand_out(tx: Transaction, call: Call, key_id: KeyId) -> DeliveredKey:
    key = held_key(tx.connection, tx.seal, key_id)
    # The primary key of `served` refuses a second row for the same SAE, whatever was checked.
    tx.write("INSERT INTO served VALUES (?, ?, ?)", key_id, call.slave, tx.now)
    tx.audit("key_delivered_by_id", key_id=key_id, master=call.master, slave=call.slave)
    n_served, slaves = tx.connection.execute(
        "SELECT (SELECT count(*) FROM served WHERE key_id = ?1), slaves FROM keys"
        " WHERE key_id = ?1",
        (key_id,),
    ).fetchone()
    if n_served == len(json.loads(slaves)):
        move_key(tx, key_id, KeyState.DELIVERED)
    return key
