"""`AllocationStore` over SQLite; each method is one transition, and most have their own module."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from keyferry.store.claims import take_over
from keyferry.store.cutting import Order, cut_keys
from keyferry.store.database import Database
from keyferry.store.epochs import retire_old_epochs
from keyferry.store.gate import OPENINGS, KeysParked, RunUsedUp
from keyferry.store.handing_out import Call, serve
from keyferry.store.key_rows import (
    allocation_from,
    allocation_of,
    audit_key,
    held_key,
    keep_secret,
    move_key,
)
from keyferry.store.refresh_moves import RELEASED_STATES
from keyferry.store.suspicions import note_repeat
from keyferry.store.transaction import Transaction
from qkd_core.errors import PeerViolation
from qkd_core.keys.allocation import check_request
from qkd_core.keys.lifecycle import KeyState
from qkd_core.types.ids import KeyId, SaeId
from qkd_core.types.keys import Allocation, DeliveredKey, KeyRequest

T = TypeVar("T")
EXPIRED_AT_ONCE = 500  # keys that one transaction burns
RESEALED_IN_TURN = 80  # transactions that move rows out of old epochs

EXPIRED_KEYS = (
    "SELECT key_id FROM keys INDEXED BY keys_due"
    " WHERE state = 'allocated' AND expires_at <= ? AND NOT EXISTS ("
    "  SELECT 1 FROM refreshes WHERE refreshes.key_id = keys.key_id"
    f"  AND refreshes.state NOT IN {RELEASED_STATES}) LIMIT ?"
)


class SqliteAllocations:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._site = database.site

    def deliver(self, request: KeyRequest, expires_at: float) -> tuple[DeliveredKey, ...]:
        check_request(request)
        order = Order(request, expires_at)
        return self._within_runs(lambda: self._db.write_together(self._deliver_all, order))

    def hold(self, request: KeyRequest, expires_at: float) -> tuple[Allocation, ...]:
        def transition(tx: Transaction) -> tuple[Allocation, ...]:
            order = Order(request, expires_at)
            [keys] = cut_keys(tx, self._site, [order], KeyState.ALLOCATED)
            for key in keys:
                keep_secret(tx, key.allocation.key_id, key.secret)
                audit_key(tx, "key_held", key.allocation)
            return tuple([key.allocation for key in keys])

        check_request(request)
        return self._within_runs(lambda: self._db.write(transition))

    def allocation(self, key_id: KeyId) -> Allocation | None:
        link_id = self._site.link_id
        return self._db.read(lambda connection: allocation_of(connection, link_id, key_id))

    def accept(self, allocation: Allocation) -> None:
        self._db.gate.check()
        violation = self._db.write(lambda tx: self._accept(tx, allocation))
        if violation is not None:
            raise violation

    def deliver_by_id(
        self, slave: SaeId, master: SaeId, key_ids: Sequence[KeyId], now: float
    ) -> tuple[DeliveredKey, ...]:
        call = Call(slave, master, now)
        self._db.gate.check()
        try:
            return self._db.write(lambda tx: serve(tx, call, key_ids))
        except KeysParked as parked:
            self._db.gate.release(parked.key_ids)
            return self._db.write(lambda tx: serve(tx, call, key_ids))

    def read_held(self, key_id: KeyId) -> DeliveredKey:
        self._db.gate.check()
        return self._db.read(lambda connection: held_key(connection, self._db.seal, key_id))

    def drop_held(self, key_id: KeyId, *, burnt: bool) -> None:
        def transition(tx: Transaction) -> None:
            if self._is_held(tx.connection, key_id):
                move_key(tx, key_id, KeyState.BURNT if burnt else KeyState.DELIVERED)
                tx.audit("key_burnt" if burnt else "key_published", key_id=key_id)

        self._db.write(transition)

    def expire(self, now: float) -> int:
        expired = 0
        while True:
            burnt = self._db.write(lambda tx: self._expire_some(tx, now))
            expired += burnt
            if burnt < EXPIRED_AT_ONCE:
                break
        for _ in range(RESEALED_IN_TURN):
            if not self._db.write(retire_old_epochs):
                break
        return expired

    def outbox(self, limit: int) -> tuple[Allocation, ...]:
        def question(connection: sqlite3.Connection) -> tuple[Allocation, ...]:
            rows = connection.execute(
                "SELECT key_id, owner, master, slaves, ranges, n_bits, expires_at"
                " FROM outbox JOIN keys USING (key_id) ORDER BY position LIMIT ?",
                (limit,),
            )
            return tuple(allocation_from(self._site.link_id, row) for row in rows)

        return self._db.read(question)

    def acknowledge(self, key_ids: Sequence[KeyId]) -> None:
        def transition(tx: Transaction) -> None:
            for key_id in key_ids:
                tx.write("DELETE FROM outbox WHERE key_id = ?", key_id)

        self._db.write(transition)

    def _accept(self, tx: Transaction, allocation: Allocation) -> PeerViolation | None:
        """A repetition is counted: the answer to the first time was lost, or somebody replays."""
        known = allocation_of(tx.connection, self._site.link_id, allocation.key_id)
        if known == allocation:
            note_repeat(tx, "allocation_repeated", key_id=allocation.key_id)
            return None
        return take_over(tx, self._site, allocation)

    def _within_runs(self, act: Callable[[], T]) -> T:
        """Cut keys; when what is open is used up, have the peer open more. Raises RunUsedUp."""
        self._db.gate.check()
        for _ in range(OPENINGS):
            try:
                return act()
            except RunUsedUp as used_up:
                self._db.gate.more_bytes(used_up.n_bytes)
        return act()

    def _deliver_all(
        self, tx: Transaction, orders: Sequence[Order]
    ) -> list[tuple[DeliveredKey, ...]]:
        """Orders that come at the same time take their keys out of the same chunks."""
        ordered = cut_keys(tx, self._site, orders, KeyState.DELIVERED)
        for keys in ordered:
            for key in keys:
                audit_key(tx, "key_delivered", key.allocation)
            tx.count("keys_delivered", len(keys))
        return [tuple([key.delivered() for key in keys]) for keys in ordered]

    def _is_held(self, connection: sqlite3.Connection, key_id: KeyId) -> bool:
        row = connection.execute("SELECT state FROM keys WHERE key_id = ?", (key_id,)).fetchone()
        return row is not None and row[0] == KeyState.ALLOCATED

    def _expire_some(self, tx: Transaction, now: float) -> int:
        """Burn up to a transaction's worth; keys of refresh runs under way are left alone."""
        due = tx.connection.execute(EXPIRED_KEYS, (now, EXPIRED_AT_ONCE)).fetchall()
        for (key_id,) in due:
            move_key(tx, key_id, KeyState.EXPIRED)
            tx.audit("key_expired", key_id=key_id)
        return len(due)
