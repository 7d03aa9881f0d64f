"""Giving free ranges to the peer, and taking over what it gave.

The giver records its loss and the notice in one transaction; the peer owns the range when it heeds
the notice, and not before. No cession stays open: the notice is told until it is heeded, and what
the new owner may not use it burns at both sites. Source: `architecture.md`, section 3 (directional
halves).
"""

import sqlite3
from collections.abc import Iterator
from itertools import chain, islice

from keyferry.store.block_rows import layout_of, make_pending_available, state_of
from keyferry.store.cession_rows import (
    advance_gained,
    cessions_of,
    insert_gained,
    insert_given,
)
from keyferry.store.key_rows import taken_by
from keyferry.store.losses import burn_range, destroy_at_both
from keyferry.store.notice_rows import tell_peer
from keyferry.store.schema import SiteRow
from keyferry.store.suspicions import suspect
from keyferry.store.transaction import Transaction
from qkd_core.errors import PeerViolation, StoreDamaged
from qkd_core.keys.allocation import described
from qkd_core.keys.ceding import owner_of, tails
from qkd_core.types.agreement import Cession
from qkd_core.types.ids import BlockId
from qkd_core.types.keys import BlockState, KeyRange

RUNS_AT_ONCE = 64  # ranges that one turn gives away, at most


def cede(tx: Transaction, site: SiteRow, n_bytes: int) -> tuple[Cession, ...]:
    """Give up to ``n_bytes``, from the newest blocks and from what would be drawn last."""
    runs = list(islice(_free_runs(tx.connection), RUNS_AT_ONCE))
    ceded = tuple(Cession(part, site.side.other) for part in tails(runs, n_bytes))
    for cession in ceded:
        part = cession.part
        size = part.stop - part.start
        own = tx.write(
            "UPDATE blocks SET own_stop = ? WHERE block_id = ? AND own_next <= ? AND own_stop = ?",
            *(part.start, part.block_id, part.start, part.stop),
        )
        if not own:
            tx.write(
                "UPDATE cessions SET free_stop = ?"
                " WHERE block_id = ? AND next <= ? AND free_stop = ? AND next < free_stop",
                *(part.start, part.block_id, part.start, part.stop),
            )
        tx.write(
            "UPDATE blocks SET peer_free = peer_free + ? WHERE block_id = ?", size, part.block_id
        )
        insert_given(tx, cession)
        notice_id = tell_peer(tx, cession)
        tx.audit("range_ceded", ranges=described([part]), notice_id=notice_id)
    return ceded


def gain(tx: Transaction, site: SiteRow, cession: Cession) -> PeerViolation | None:
    """Own what the peer ceded; nothing when its block is gone here.

    A violation is returned, and the block is burnt at both sites: the peer gave what was not its
    own, or what a key had. What the peer may have cut keys from by itself is burnt at both sites.
    """
    part = cession.part
    state = state_of(tx.connection, part.block_id)
    if state in (BlockState.NONE, BlockState.DESTROYED):
        return None
    try:
        _check(tx.connection, site, cession)
    except PeerViolation as violation:
        suspect(tx, "peer_violation", ranges=described([part]), detail=str(violation))
        destroy_at_both(tx, site, part.block_id, "peer violation")
        return violation
    make_pending_available(tx, part.block_id, cause="cession of the peer")
    tx.write(
        "UPDATE blocks SET peer_free = peer_free - ? WHERE block_id = ?",
        *(part.stop - part.start, part.block_id),
    )
    insert_gained(tx, cession)
    tx.audit("range_gained", ranges=described([part]))
    _burn_what_was_open(tx, site, part)
    return None


def _burn_what_was_open(tx: Transaction, site: SiteRow, part: KeyRange) -> None:
    """The peer may have cut keys there before its store was put back: then they are not told here.

    It draws upwards, so all up to the last byte that was ever open to it goes.
    """
    row = tx.connection.execute(
        "SELECT max(stop) FROM witness_runs WHERE block_id = ? AND start < ? AND stop > ?",
        (part.block_id, part.stop, part.start),
    ).fetchone()
    if row[0] is None:
        return
    burnt = KeyRange(part.block_id, part.start, min(row[0], part.stop))
    provenance = advance_gained(tx, burnt)
    if provenance is None:
        raise StoreDamaged(f"{described([burnt])[0]} was gained and is not free")
    burn_range(tx, site, burnt, provenance, "perhaps used by the peer before it was ceded")


def _check(connection: sqlite3.Connection, site: SiteRow, cession: Cession) -> None:
    part = cession.part
    if cession.owner is not site.side or part.start >= part.stop:
        raise PeerViolation(f"a cession of {described([part])[0]} to side {cession.owner}")
    layout = layout_of(connection, part.block_id)
    owner = owner_of(part, layout, cessions_of(connection, part.block_id))
    if owner is not site.side.other:
        raise PeerViolation(f"{described([part])[0]} is ceded by the peer, its owner is {owner}")
    taken = taken_by(connection, part)
    if taken is not None:
        raise PeerViolation(f"{described([part])[0]} is ceded by the peer, key {taken} had of it")


def _free_runs(connection: sqlite3.Connection) -> Iterator[KeyRange]:
    """This site's free runs, newest block first; what was gained comes last.

    What is open to be drawn without asking the peer is left out: the peer could not tell it from
    bytes that went to an SAE before this store was put back.
    """
    own = connection.execute(
        "SELECT block_id, max(own_next, open_stop), own_stop FROM blocks INDEXED BY blocks_free"
        " WHERE state = 'available' AND own_next < own_stop AND open_stop < own_stop"
        " ORDER BY block_id DESC LIMIT ?",
        (RUNS_AT_ONCE,),
    ).fetchall()
    gained = connection.execute(
        "SELECT block_id, max(next, open_stop), free_stop FROM cessions INDEXED BY cessions_free"
        " WHERE next < free_stop AND open_stop < free_stop ORDER BY block_id DESC LIMIT ?",
        (RUNS_AT_ONCE,),
    ).fetchall()
    for block_id, start, stop in chain(own, gained):
        yield KeyRange(BlockId(block_id), start, stop)
