"""What a site's status is made of, read in one transaction; no figure costs a walk over keys."""

import sqlite3

from keyferry.store.blocks import free_bytes_by_owner
from keyferry.store.pads import pads_left
from qkd_core.types.authentication import Lane
from qkd_core.types.figures import SiteFigures
from qkd_core.types.ids import Side

OUTCOME = "blocks "  # names of tally rows that count blocks by outcome begin so


def site_figures(connection: sqlite3.Connection, side: Side) -> SiteFigures:
    tally = dict(connection.execute("SELECT name, value FROM tally").fetchall())
    pending = connection.execute(
        "SELECT count(*) FROM blocks INDEXED BY blocks_pending WHERE state = 'pending'"
    ).fetchone()[0]
    outcomes = {
        name.removeprefix(OUTCOME): int(value)
        for name, value in tally.items()
        if name.startswith(OUTCOME)
    }
    newest = connection.execute("SELECT qber FROM blocks ORDER BY block_id DESC LIMIT 1").fetchone()
    runs = connection.execute("SELECT policy, state, count(*) FROM refreshes GROUP BY 1, 2")
    return SiteFigures(
        blocks={**outcomes, "pending": pending},
        qber=None if newest is None else newest[0],
        secret_bits=int(tally.get("secret_bits", 0)),
        link_s=float(tally.get("link_s", 0)),
        free_bytes=free_bytes_by_owner(connection, side),
        keys_delivered=int(tally.get("keys_delivered", 0)),
        refreshes={(policy, state): n for policy, state, n in runs},
        pool_pads={
            (sender.value, lane.name.lower()): pads_left(connection, sender, lane)
            for sender in Side
            for lane in Lane
        },
        last_discard=tally.get("last_discard"),
    )
