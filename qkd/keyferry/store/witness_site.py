"""This site under its witness, as transitions: it opens, acts within runs, closes, starts empty."""

import sqlite3
from collections.abc import Sequence
from uuid import uuid4

from keyferry.store.block_rows import destroy_block
from keyferry.store.blocks import unspent_blocks
from keyferry.store.losses import burn_key, zeroise_here
from keyferry.store.refresh_moves import RELEASED_STATES
from keyferry.store.runs import (
    close_all,
    newest_proved,
    open_bytes,
    open_pads,
    open_parts,
    open_segments,
    take_pads,
    take_ranges,
)
from keyferry.store.schema import SiteRow
from keyferry.store.transaction import Transaction
from keyferry.store.witness_rows import forget_peer, is_recorded, own_marks
from qkd_core.errors import PeerUnavailable, RolledBack
from qkd_core.keys.witness import (
    RUN_BYTES,
    RUN_PADS,
    pads_to_open,
    ranges_to_open,
    rolled_back,
    waits_for_rekey,
)
from qkd_core.types.authentication import SETTLING_PADS, Lane
from qkd_core.types.ids import KeyId, Side
from qkd_core.types.witness import PadRun, Proof, Remembered, Runs, SiteState

FRESH_KEYS = (
    "SELECT key_id FROM fresh JOIN keys USING (key_id) WHERE keys.state = 'allocated'"
    " AND NOT EXISTS (SELECT 1 FROM refreshes WHERE refreshes.key_id = keys.key_id"
    f" AND refreshes.state NOT IN {RELEASED_STATES})"
)
"""Keys of refresh runs are left out: a run publishes the same bytes under the same generation."""


def why_rolled_back(connection: sqlite3.Connection, told: Remembered) -> str | None:
    """Why this site is older than its peer remembers; None when it is not.

    Raises PeerUnavailable when the peer has to be rekeyed as well.
    """
    state, reason = connection.execute("SELECT state, reason FROM witness").fetchone()
    if state == SiteState.ROLLED_BACK:
        return str(reason)
    own = own_marks(connection)
    if waits_for_rekey(own, told):
        raise PeerUnavailable("the peer knows an earlier store: it has to be rekeyed too")
    return rolled_back(own, told, lambda role, head: is_recorded(connection, role, head))


def roll_back(tx: Transaction, reason: str) -> bool:
    """For ever; False when it was before."""
    changed = tx.write(
        "UPDATE witness SET state = 'rolled_back', reason = ? WHERE state <> 'rolled_back'",
        reason,
    )
    if changed:
        tx.alarm("rolled_back")
        tx.audit("rolled_back", reason=reason)
    return bool(changed)


def enter(tx: Transaction, site: SiteRow, era: int, proof: Proof) -> int:
    """Open as ``era``; without proof, what was uncertain is burnt: returns how many keys.

    Raises RolledBack.
    """
    state, old_era = tx.connection.execute("SELECT state, era FROM witness").fetchone()
    if state == SiteState.ROLLED_BACK:
        raise RolledBack("this site is rolled back")
    tx.write("UPDATE witness SET state = 'open', era = ?, closing = 0", era)
    burnt = 0
    if proof is Proof.NONE:
        close_all(tx, site.side)
        burnt = _burn_fresh(tx, site)
    if (state, old_era) != (SiteState.OPEN, era):
        tx.audit("site_opened", proof=proof.value, era=era, burnt=burnt)
    return burnt


def close(tx: Transaction) -> None:
    """Deliver nothing more; nothing unless the site is open."""
    if tx.write("UPDATE witness SET state = 'closed', closing = 1 WHERE state = 'open'"):
        tx.audit("site_closed")


def runs_wanted(
    connection: sqlite3.Connection, side: Side, n_bytes: int, lanes: Sequence[Lane]
) -> Runs:
    """What to ask the peer for, to have ``n_bytes`` and a run of each lane's pads open."""
    pads: list[PadRun] = []
    for lane in lanes:
        pads += pads_to_open(open_segments(connection, side, lane), RUN_PADS[lane])
        pads += pads_to_open(newest_proved(connection, side, lane), SETTLING_PADS)
    return Runs(ranges_to_open(open_parts(connection), n_bytes), tuple(pads))


def is_low(
    connection: sqlite3.Connection, side: Side, of_bytes: bool, lanes: Sequence[Lane]
) -> bool:
    half = RUN_BYTES // 2
    if of_bytes and open_bytes(connection, half) < half:
        return True
    return any(open_pads(connection, side, lane) < RUN_PADS[lane] // 2 for lane in lanes)


def take_runs(tx: Transaction, site: SiteRow, asked: Runs, opened: Runs) -> None:
    """The peer has acknowledged ``opened`` of what was ``asked``."""
    for part in opened.ranges:
        for wanted in asked.ranges:
            if wanted.block_id == part.block_id and wanted.start <= part.start:
                take_ranges(tx, site, wanted, part)
    for run in opened.pads:
        take_pads(tx, site.side, run)


def start_empty(tx: Transaction, reason: str) -> None:
    """Erase all stored key, pads and held keys, as a new incarnation that knows no peer."""
    zeroise_here(tx, None, reason)
    for block_id in unspent_blocks(tx.connection):  # in a restored ledger they have no bytes
        destroy_block(tx, block_id, reason)
    tx.write("DELETE FROM segments")
    tx.write("DELETE FROM outbox")
    tx.write("DELETE FROM notices")
    tx.write("DELETE FROM fresh")
    incarnation = str(uuid4())
    tx.write(
        "UPDATE witness SET incarnation = ?, state = 'new', reason = NULL, era = 0, closing = 0",
        incarnation,
    )
    forget_peer(tx)
    tx.audit("started_empty", incarnation=incarnation, reason=reason)


def _burn_fresh(tx: Transaction, site: SiteRow) -> int:
    """Keys that may have been consumed since the peer heard of this site; the peer is told."""
    rows = tx.connection.execute(FRESH_KEYS).fetchall()
    for (key_id,) in rows:
        burn_key(tx, site, KeyId(key_id), "perhaps used before an unclean end")
    tx.write("DELETE FROM fresh")
    tx.count("keys_burnt_unclean", len(rows))
    return len(rows)
