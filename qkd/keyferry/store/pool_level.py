"""How full this site's half is, how fast it fills, and who drew how much of it lately.

What was drawn is kept by the minute, so that neither its writing nor its reading grows with the
number of keys that were ever delivered.
"""

import sqlite3

from keyferry.store.blocks import own_free_bytes
from keyferry.store.database import Database
from keyferry.store.transaction import Transaction
from qkd_core.ports import Clock
from qkd_core.types.figures import PoolLevel
from qkd_core.types.ids import SaeId, Side
from qkd_core.types.keys import BlockLayout, BlockState

MINUTE_S = 60
RATE_WINDOW_S = 600.0  # for fill and drain
SHARE_WINDOW_S = 3600.0
RECENT_BLOCKS = 64  # that the fill rate is taken from, at most


class SqlitePool:
    """`qkd_core.ports.PoolGauge` over SQLite."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db, self._clock = database, clock

    def level(self) -> PoolLevel:
        side, now = self._db.site.side, self._clock.now()
        return self._db.read(lambda connection: pool_level(connection, side, now))


def note_drawn(tx: Transaction, master: SaeId, n_bytes: int) -> None:
    """Add what a master, or a refresh policy, has just drawn; forget what no window reaches."""
    minute = int(tx.now // MINUTE_S)
    added = tx.write(
        "UPDATE drawn SET n_bytes = n_bytes + ? WHERE minute = ? AND master = ?",
        *(n_bytes, minute, master),
    )
    if not added:
        tx.write("INSERT INTO drawn VALUES (?, ?, ?)", minute, master, n_bytes)
        tx.write("DELETE FROM drawn WHERE minute < ?", minute - SHARE_WINDOW_S / MINUTE_S)


def pool_level(connection: sqlite3.Connection, side: Side, now: float) -> PoolLevel:
    return PoolLevel(
        free_bytes=own_free_bytes(connection),
        filled_bytes_per_s=_filled_bytes_per_s(connection, side, now),
        drained_bytes_per_s=_drained_bytes_per_s(connection, now),
        drawn_bytes=_drawn_bytes(connection, now),
    )


def _filled_bytes_per_s(connection: sqlite3.Connection, side: Side, now: float) -> float:
    rows = connection.execute(
        "SELECT n_secret, segment_pads, link_s, stored_at FROM (SELECT * FROM blocks"
        " ORDER BY block_id DESC LIMIT ?) WHERE state = ? AND stored_at > ?",
        (RECENT_BLOCKS, BlockState.AVAILABLE.value, now - RATE_WINDOW_S),
    ).fetchall()
    if not rows:
        return 0.0
    n_bytes = 0
    for n_secret, segment_pads, _, _ in rows:
        start, stop = BlockLayout(n_secret=n_secret, segment_pads=segment_pads).half(side)
        n_bytes += stop - start
    _, _, link_s, began = rows[-1]  # the first of these blocks was under way before it was stored
    return float(n_bytes / max(1.0, now - began + link_s))


def _drained_bytes_per_s(connection: sqlite3.Connection, now: float) -> float:
    row = connection.execute(
        "SELECT coalesce(sum(n_bytes), 0) FROM drawn WHERE minute > ?",
        (int((now - RATE_WINDOW_S) // MINUTE_S),),
    ).fetchone()
    return float(row[0]) / RATE_WINDOW_S


def _drawn_bytes(connection: sqlite3.Connection, now: float) -> dict[SaeId, int]:
    rows = connection.execute(
        "SELECT master, sum(n_bytes) FROM drawn WHERE minute > ? GROUP BY master",
        (int((now - SHARE_WINDOW_S) // MINUTE_S),),
    )
    return {SaeId(master): n_bytes for master, n_bytes in rows}
