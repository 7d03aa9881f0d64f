"""Taking over the peer's allocations, each checked against all that is recorded here.

Source: `architecture.md`, section 3 (directional halves).
"""

import sqlite3

from keyferry.store.block_rows import destroy_block, layout_of, make_pending_available, state_of
from keyferry.store.cession_rows import cessions_by_block
from keyferry.store.chunks import cut_out
from keyferry.store.key_rows import allocation_of, audit_key, insert_keys, keep_secret, taken_by
from keyferry.store.losses import destroy_at_both
from keyferry.store.schema import SiteRow
from keyferry.store.suspicions import suspect
from keyferry.store.transaction import Transaction
from qkd_core.errors import KeyNotFound, PeerViolation
from qkd_core.keys.allocation import check_claim_form, check_claim_place, weakest
from qkd_core.keys.lifecycle import KeyState
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.keys import Allocation, BlockLayout, BlockState


def take_over(tx: Transaction, site: SiteRow, allocation: Allocation) -> PeerViolation | None:
    """Seal the claimed bytes under the key ID; nothing when that was done before.

    A violation is returned, not raised: burning the named blocks is to be committed. Raises
    KeyNotFound when a named block is not here.
    """
    known = allocation_of(tx.connection, site.link_id, allocation.key_id)
    if known == allocation:
        return None
    try:
        if known is not None:
            raise PeerViolation(f"key {allocation.key_id} is known here, and not like this")
        _check(tx.connection, site, allocation)
    except PeerViolation as violation:
        _burn(tx, site, allocation, violation)
        return violation
    for block_id in _blocks(allocation):
        make_pending_available(tx, block_id, cause="allocation of the peer")
    _record(tx, allocation)
    return None


def _check(connection: sqlite3.Connection, site: SiteRow, allocation: Allocation) -> None:
    check_claim_form(allocation, site.link_id, site.side.other)
    layouts = _layouts(connection, allocation)
    check_claim_place(allocation, layouts, cessions_by_block(connection, layouts))
    for part in allocation.ranges:
        owner = taken_by(connection, part)
        if owner is not None:
            raise PeerViolation(
                f"key {allocation.key_id} claims bytes {part.start} to {part.stop} of block "
                f"{part.block_id}, key {owner} has some of them"
            )


def _layouts(connection: sqlite3.Connection, allocation: Allocation) -> dict[BlockId, BlockLayout]:
    """Raises KeyNotFound when a block is not here."""
    for block_id in _blocks(allocation):
        state = state_of(connection, block_id)
        if state in (BlockState.NONE, BlockState.DESTROYED):
            raise KeyNotFound(f"block {block_id} of key {allocation.key_id} is {state} here")
    return {block_id: layout_of(connection, block_id) for block_id in _blocks(allocation)}


def _record(tx: Transaction, allocation: Allocation) -> None:
    provenances = []
    for part in allocation.ranges:
        row = tx.connection.execute(
            "UPDATE blocks SET peer_free = peer_free - ? WHERE block_id = ? RETURNING provenance",
            (part.stop - part.start, part.block_id),
        ).fetchone()
        provenances.append(Provenance(row[0]))
    secret = cut_out(tx, allocation.ranges)
    insert_keys(tx, [(allocation, weakest(provenances))], KeyState.ALLOCATED)
    keep_secret(tx, allocation.key_id, secret)
    if tx.witnessed:
        tx.write("INSERT INTO fresh VALUES (?, ?)", allocation.key_id, tx.now)
    audit_key(tx, "key_accepted", allocation)


def _burn(tx: Transaction, site: SiteRow, allocation: Allocation, violation: PeerViolation) -> None:
    suspect(tx, "peer_violation", key_id=allocation.key_id, detail=str(violation))
    for block_id in _blocks(allocation):
        if state_of(tx.connection, block_id) is BlockState.AVAILABLE:
            destroy_at_both(tx, site, block_id, "peer violation")
        else:
            destroy_block(tx, block_id, "peer violation")


def _blocks(allocation: Allocation) -> list[BlockId]:
    return sorted({part.block_id for part in allocation.ranges})
