"""Key that nobody shall have any more: burnt keys, lost and destroyed blocks, a zeroised link."""

import json
from collections.abc import Sequence
from uuid import uuid4

from keyferry.store.block_rows import destroy_block
from keyferry.store.chunks import cut_out
from keyferry.store.key_rows import allocation_of, audit_key, insert_keys, move_key
from keyferry.store.notice_rows import tell_peer
from keyferry.store.schema import SiteRow
from keyferry.store.suspicions import suspect
from keyferry.store.transaction import Transaction
from qkd_core.errors import KeyNotFound, PeerViolation
from qkd_core.keys.lifecycle import UNKNOWN, KeyState
from qkd_core.types.agreement import BurntKey, DestroyedBlock
from qkd_core.types.ids import BlockId, KeyId, LinkId, Provenance, SaeId
from qkd_core.types.keys import Allocation, BlockState, KeyRange

PASSED_OVER = SaeId("passed-over")  # the master of bytes that nobody gets
NAMED_AT_ONCE = 200  # key IDs in one audit record


def burn_key(tx: Transaction, site: SiteRow, key_id: KeyId, reason: str) -> str:
    """Burn the key here if its bytes are here, and tell the peer; returns what it was here.

    Raises KeyNotFound.
    """
    allocation = allocation_of(tx.connection, site.link_id, key_id)
    if allocation is None:
        raise KeyNotFound(f"key {key_id} is not known here", UNKNOWN)
    state = _state_of(tx, key_id)
    _burn_held(tx, key_id, reason)
    notice_id = tell_peer(tx, BurntKey(allocation, reason))
    tx.audit("burn_ordered", key_id=key_id, state=state.value, reason=reason, notice_id=notice_id)
    return state.value


def burn_known(tx: Transaction, site: SiteRow, burnt: BurntKey) -> PeerViolation | None:
    """As the peer tells it: nothing when the bytes are gone already."""
    allocation = burnt.allocation
    if allocation_of(tx.connection, site.link_id, allocation.key_id) != allocation:
        detail = f"key {allocation.key_id} is burnt by the peer, and not known like this here"
        suspect(tx, "peer_violation", key_id=allocation.key_id, detail=detail)
        return PeerViolation(detail)
    _burn_held(tx, allocation.key_id, f"the peer: {burnt.reason}")
    return None


def burn_range(
    tx: Transaction, site: SiteRow, part: KeyRange, provenance: Provenance, reason: str
) -> None:
    """Burn bytes of this site here and at the peer, under a key ID of their own.

    They are no longer counted as free when this is called.
    """
    cut_out(tx, (part,))
    n_bytes = part.stop - part.start
    allocation = Allocation(
        key_id=KeyId(str(uuid4())),
        link_id=site.link_id,
        owner=site.side,
        master=PASSED_OVER,
        slaves=(PASSED_OVER,),
        ranges=(part,),
        n_bits=8 * n_bytes,
        expires_at=tx.now,
    )
    insert_keys(tx, [(allocation, provenance)], KeyState.ALLOCATED)
    audit_key(tx, "key_held", allocation)
    _burn_held(tx, allocation.key_id, reason)
    tx.count("bytes_passed_over", n_bytes)
    tell_peer(tx, BurntKey(allocation, reason))


def destroy_at_both(tx: Transaction, site: SiteRow, block_id: BlockId, reason: str) -> None:
    """Erase what is left of the block here, and tell the peer to."""
    destroy_told(tx, site, block_id, reason)
    tell_peer(tx, DestroyedBlock(block_id, reason))


def destroy_told(tx: Transaction, site: SiteRow, block_id: BlockId, reason: str) -> None:
    """Erase what is left of a block that the other site erases too; report whose copies go with it.

    A key cut here that the peer has not acknowledged can perhaps not be taken over there any more.
    """
    destroy_block(tx, block_id, reason)
    _orphan(tx, site.link_id, _cut_here(tx, site, block_id, only_untold=True), block_id=block_id)


def orphan_block(
    tx: Transaction, site: SiteRow, block_id: BlockId, at_peer: BlockState
) -> tuple[KeyId, ...]:
    """The peer lost a block that is available here: burn the rest, report what was handed out.

    A peer that never stored the block has none of its keys; one that destroyed it has those that
    it acknowledged. Returns the orphaned keys: cut here, and never to be had at the peer.
    """
    changed = tx.connection.execute(
        "SELECT 1 FROM blocks WHERE block_id = ? AND state = 'available'", (block_id,)
    ).fetchone()
    if not changed:
        return ()
    destroy_block(tx, block_id, f"the peer lost it: {at_peer.value} there")
    orphans = _cut_here(tx, site, block_id, only_untold=at_peer is BlockState.DESTROYED)
    _orphan(tx, site.link_id, orphans, block_id=block_id)
    tx.alarm("orphaned_block")
    return orphans


def zeroise_here(tx: Transaction, newest: BlockId | None, reason: str) -> BlockId:
    """Erase stored bytes, held keys and pads; ``newest``: of blocks up to it only.

    What the peer told later, after a rekey, is of later blocks and stays. Returns the newest block.
    """
    limit = _newest_used(tx) if newest is None else newest
    blocks = tx.connection.execute(
        "SELECT block_id FROM blocks WHERE block_id <= ?1 AND (state = 'pending'"
        " OR block_id IN (SELECT DISTINCT block_id FROM chunks))",
        (limit,),
    ).fetchall()
    for (block_id,) in blocks:
        destroy_block(tx, block_id, reason)
    held = tx.connection.execute(
        "SELECT key_id, ranges FROM keys INDEXED BY keys_due WHERE state = 'allocated'"
    ).fetchall()
    burnt = [key_id for key_id, ranges in held if _is_within(ranges, limit)]
    for key_id in burnt:
        _burn_held(tx, key_id, reason)
    untold = tx.connection.execute(
        "SELECT key_id, ranges FROM outbox JOIN keys USING (key_id) ORDER BY position"
    ).fetchall()
    orphans = [KeyId(key_id) for key_id, ranges in untold if _is_within(ranges, limit)]
    _orphan(tx, _link_of(tx), orphans, newest=limit)
    tx.write("DELETE FROM segments WHERE segment <= ?", limit)
    tx.write("UPDATE site SET preshared = NULL")
    tx.alarm("link_zeroised")
    tx.audit("link_zeroised", newest=limit, blocks=len(blocks), keys=len(burnt), reason=reason)
    return BlockId(limit)


def _orphan(tx: Transaction, link_id: LinkId, orphans: Sequence[KeyId], **of: int) -> None:
    """Report keys cut here that the peer may never have; burn them here and there if they wait.

    ``of``: what took them, for the record.
    """
    for key_id in orphans:
        _burn_held(tx, key_id, "orphaned")
        tx.write("DELETE FROM outbox WHERE key_id = ?", key_id)
        allocation = allocation_of(tx.connection, link_id, key_id)
        if allocation is not None:
            tell_peer(tx, BurntKey(allocation, "orphaned"))
    for start in range(0, len(orphans), NAMED_AT_ONCE):
        named = list(map(str, orphans[start : start + NAMED_AT_ONCE]))
        tx.audit("key_orphaned", key_ids=named, **of)
    if orphans:
        tx.count("orphaned_keys", len(orphans))


def _link_of(tx: Transaction) -> LinkId:
    return LinkId(tx.connection.execute("SELECT link_id FROM site").fetchone()[0])


def _cut_here(
    tx: Transaction, site: SiteRow, block_id: BlockId, *, only_untold: bool
) -> tuple[KeyId, ...]:
    """Keys of this site; ``only_untold``: that the peer may not have.

    A refresh run is committed when the peer has its key, whatever the outbox says.
    """
    rows = tx.connection.execute(
        "SELECT DISTINCT key_id FROM taken JOIN keys USING (key_id)"
        " WHERE block_id = ? AND owner = ? AND (NOT ?"
        " OR EXISTS (SELECT 1 FROM outbox WHERE outbox.key_id = keys.key_id)"
        " AND NOT EXISTS (SELECT 1 FROM refreshes WHERE refreshes.key_id = keys.key_id"
        " AND refreshes.state IN ('committed', 'published')))",
        (block_id, site.side.value, only_untold),
    )
    return tuple(KeyId(row[0]) for row in rows)


def _state_of(tx: Transaction, key_id: KeyId) -> KeyState:
    row = tx.connection.execute("SELECT state FROM keys WHERE key_id = ?", (key_id,)).fetchone()
    return KeyState(row[0])


def _burn_held(tx: Transaction, key_id: KeyId, reason: str) -> None:
    if _state_of(tx, key_id) is KeyState.ALLOCATED:
        move_key(tx, key_id, KeyState.BURNT)
        tx.audit("key_burnt", key_id=key_id, reason=reason)


def _newest_used(tx: Transaction) -> int:
    row = tx.connection.execute("SELECT value FROM tally WHERE name = 'newest_block'").fetchone()
    return int(row[0]) if row else 0


def _is_within(ranges: str, newest: int) -> bool:
    return all(block_id <= newest for block_id, _, _ in json.loads(ranges))
