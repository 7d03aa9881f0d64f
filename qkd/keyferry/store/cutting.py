"""New keys out of this site's half, oldest block first, each half from its first byte on.

Ranges that the peer ceded come after it.
"""

import os
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from uuid import UUID

from keyferry.store.blocks import own_free_bytes
from keyferry.store.cession_rows import advance_gained, gained_runs
from keyferry.store.chunks import cut_out
from keyferry.store.gate import RunUsedUp
from keyferry.store.key_rows import insert_keys, taken_by
from keyferry.store.pool_level import note_drawn, pool_level
from keyferry.store.runs import open_ranges
from keyferry.store.schema import SiteRow
from keyferry.store.transaction import Transaction
from keyferry.store.witness_rows import require_open
from qkd_core.errors import KeysExhausted, StoreDamaged
from qkd_core.keys.allocation import draw, split, weakest
from qkd_core.keys.forecast import retry_after_s
from qkd_core.keys.lifecycle import KeyState
from qkd_core.types.ids import BlockId, KeyId, Provenance, Side
from qkd_core.types.keys import Allocation, DeliveredKey, KeyRange, KeyRequest

UUID_BYTES = 16


@dataclass(frozen=True, slots=True)
class FreshKey:
    """A key that was just recorded, with its bytes, which its block has no more."""

    allocation: Allocation
    secret: bytes = field(repr=False)
    provenance: Provenance

    def delivered(self) -> DeliveredKey:
        return DeliveredKey(
            key_id=self.allocation.key_id, secret=self.secret, provenance=self.provenance
        )


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of this site's half."""

    request: KeyRequest
    expires_at: float

    @property
    def key_bytes(self) -> int:
        return self.request.n_bits // 8

    @property
    def n_bytes(self) -> int:
        return self.request.number * self.key_bytes


def cut_keys(
    tx: Transaction, site: SiteRow, orders: Sequence[Order], state: KeyState
) -> list[list[FreshKey]]:
    """Record and cut the keys of each order, in ``state``, with an outbox row each.

    Raises KeysExhausted, RunUsedUp, StoreDamaged; nothing is to be kept then.
    """
    if tx.witnessed:
        require_open(tx.connection)
    drawn = _draw(tx, site.side, sum(order.n_bytes for order in orders))
    for order in orders:
        note_drawn(tx, order.request.master, order.n_bytes)
    provenances = _advance(tx, drawn)
    secret = memoryview(cut_out(tx, drawn))
    ranges = iter(split(drawn, [o.key_bytes for o in orders for _ in range(o.request.number)]))
    key_ids = _fresh_key_ids(sum(order.request.number for order in orders))
    keys: list[list[FreshKey]] = []
    for order in orders:
        keys.append([])
        for _ in range(order.request.number):
            allocation = _allocation(site, order, next(key_ids), next(ranges))
            provenance = weakest(provenances[part.block_id] for part in allocation.ranges)
            keys[-1].append(FreshKey(allocation, bytes(secret[: order.key_bytes]), provenance))
            secret = secret[order.key_bytes :]
    fresh = [key for ordered in keys for key in ordered]
    insert_keys(tx, [(key.allocation, key.provenance) for key in fresh], state)
    tx.insert("outbox (key_id)", [(key.allocation.key_id,) for key in fresh])
    return keys


def _draw(tx: Transaction, side: Side, n_bytes: int) -> tuple[KeyRange, ...]:
    def forecast(missing: int) -> int:
        return retry_after_s(missing, pool_level(tx.connection, side, tx.now))

    runs = open_ranges(tx.connection) if tx.witnessed else _free_runs(tx.connection)
    with closing(runs) as free:
        try:
            return draw(free, n_bytes, forecast)
        except KeysExhausted:
            if tx.witnessed and own_free_bytes(tx.connection) >= n_bytes:
                raise RunUsedUp(n_bytes) from None
            raise


def _free_runs(connection: sqlite3.Connection) -> Generator[KeyRange]:
    # Without the hint the planner may walk all used-up blocks by their primary key.
    rows = connection.execute(
        "SELECT block_id, own_next, own_stop FROM blocks INDEXED BY blocks_free"
        " WHERE state = 'available' AND own_next < own_stop ORDER BY block_id"
    )
    with closing(rows):
        for block_id, start, stop in rows:
            yield KeyRange(BlockId(block_id), start, stop)
    yield from gained_runs(connection)


def _advance(tx: Transaction, drawn: Sequence[KeyRange]) -> dict[BlockId, Provenance]:
    """Move each block's next free byte past what is drawn; returns the blocks' provenances."""
    provenances = {}
    for part in drawn:
        if taken_by(tx.connection, part) is not None:
            raise StoreDamaged(f"bytes of block {part.block_id} are recorded and counted as free")
        row = tx.connection.execute(
            "UPDATE blocks SET own_next = ?1 WHERE block_id = ?2 AND own_next = ?3"
            " AND own_stop >= ?1 RETURNING provenance",
            (part.stop, part.block_id, part.start),
        ).fetchone()
        provenance = Provenance(row[0]) if row else advance_gained(tx, part)
        if provenance is None:
            raise StoreDamaged(f"bytes of block {part.block_id} were drawn and are not free")
        provenances[part.block_id] = provenance
    return provenances


def _fresh_key_ids(number: int) -> Iterator[KeyId]:
    """UUIDs of version 4, of randomness that is fetched at once."""
    drawn = os.urandom(UUID_BYTES * number)
    for start in range(0, len(drawn), UUID_BYTES):
        yield KeyId(str(UUID(bytes=drawn[start : start + UUID_BYTES], version=4)))


def _allocation(
    site: SiteRow, order: Order, key_id: KeyId, ranges: tuple[KeyRange, ...]
) -> Allocation:
    return Allocation(
        key_id=key_id,
        link_id=site.link_id,
        owner=site.side,
        master=order.request.master,
        slaves=order.request.slaves,
        ranges=ranges,
        n_bits=order.request.n_bits,
        expires_at=order.expires_at,
    )
