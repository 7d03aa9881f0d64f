"""New keys out of this site's half, oldest block first, each half from its first byte on."""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from uuid import uuid4

from keyferry.store.chunks import cut_out
from keyferry.store.key_rows import insert_key, taken_by
from keyferry.store.schema import SiteRow
from keyferry.store.transaction import Transaction
from qkd_core.errors import StoreDamaged
from qkd_core.keys.allocation import draw, growth_bytes_per_s, split, weakest
from qkd_core.keys.lifecycle import KeyState
from qkd_core.types.ids import BlockId, KeyId, Provenance, Side
from qkd_core.types.keys import Allocation, BlockLayout, DeliveredKey, KeyRange, KeyRequest


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
    """What is asked of this site's half, and what becomes of it."""

    request: KeyRequest
    expires_at: float
    state: KeyState


def cut_keys(tx: Transaction, site: SiteRow, order: Order) -> list[FreshKey]:
    """Record and cut the ordered keys, with an outbox row each.

    Raises KeysExhausted, StoreDamaged.
    """
    n_bytes = order.request.n_bits // 8
    drawn = _draw(tx.connection, site.side, order.request.number * n_bytes)
    provenances = _advance(tx, drawn)
    secret = cut_out(tx, drawn)
    keys = []
    for place, ranges in enumerate(split(drawn, n_bytes)):
        allocation = _allocation(site, order, ranges)
        provenance = weakest(provenances[part.block_id] for part in ranges)
        insert_key(tx, allocation, provenance, order.state)
        tx.write("INSERT INTO outbox (key_id) VALUES (?)", allocation.key_id)
        start = place * n_bytes
        keys.append(FreshKey(allocation, secret[start : start + n_bytes], provenance))
    return keys


def _draw(connection: sqlite3.Connection, side: Side, n_bytes: int) -> tuple[KeyRange, ...]:
    newest = connection.execute(
        "SELECT n_secret, segment_pads, link_s FROM blocks ORDER BY block_id DESC LIMIT 1"
    ).fetchone()
    growth = 0.0
    if newest is not None:
        layout = BlockLayout(n_secret=newest[0], segment_pads=newest[1])
        growth = growth_bytes_per_s(layout, side, newest[2])
    with closing(_free_runs(connection)) as free:
        return draw(free, n_bytes, growth)


def _free_runs(connection: sqlite3.Connection) -> Generator[KeyRange]:
    # Without the hint the planner may walk all used-up blocks by their primary key.
    rows = connection.execute(
        "SELECT block_id, own_next, own_stop FROM blocks INDEXED BY blocks_free"
        " WHERE state = 'available' AND own_next < own_stop ORDER BY block_id"
    )
    with closing(rows):
        for block_id, start, stop in rows:
            yield KeyRange(BlockId(block_id), start, stop)


def _advance(tx: Transaction, drawn: Sequence[KeyRange]) -> dict[BlockId, Provenance]:
    """Move each block's next free byte past what is drawn; returns the blocks' provenances."""
    provenances = {}
    for part in drawn:
        if taken_by(tx.connection, part) is not None:
            raise StoreDamaged(f"bytes of block {part.block_id} are recorded and counted as free")
        row = tx.connection.execute(
            "UPDATE blocks SET own_next = ? WHERE block_id = ? RETURNING provenance",
            (part.stop, part.block_id),
        ).fetchone()
        provenances[part.block_id] = Provenance(row[0])
    return provenances


def _allocation(site: SiteRow, order: Order, ranges: tuple[KeyRange, ...]) -> Allocation:
    return Allocation(
        key_id=KeyId(str(uuid4())),
        link_id=site.link_id,
        owner=site.side,
        master=order.request.master,
        slaves=order.request.slaves,
        ranges=ranges,
        n_bits=order.request.n_bits,
        expires_at=order.expires_at,
    )
