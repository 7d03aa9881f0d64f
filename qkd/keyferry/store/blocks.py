"""`BlockStore` over SQLite."""

import json
import sqlite3

from keyferry.store.block_rows import destroy_block, make_available, note_newest, state_of
from keyferry.store.cession_rows import gained_free_bytes, gained_provenances
from keyferry.store.chunks import put_chunks
from keyferry.store.database import Database
from keyferry.store.epsilon_rows import spend_block
from keyferry.store.pad_rows import add_segment
from keyferry.store.segments import cut_segment
from keyferry.store.transaction import Transaction
from qkd_core.errors import BlockDiscarded
from qkd_core.keys.allocation import cut_block
from qkd_core.types.authentication import Lane
from qkd_core.types.figures import PairLight
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.keys import BlockState, NewBlock
from qkd_core.types.plans import SecurityPolicy


class SqliteBlocks:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._side = database.site.side

    def newest(self) -> BlockId:
        rows = self._db.rows("SELECT value FROM tally WHERE name = 'newest_block'")
        return BlockId(int(str(rows[0][0]))) if rows else BlockId(0)

    def note_used(self, block_id: BlockId) -> None:
        def transition(tx: Transaction) -> None:
            if note_newest(tx, block_id):
                tx.audit("block_number_used", block_id=block_id)

        self._db.write(transition)

    def begin(self, block_id: BlockId, policy: SecurityPolicy) -> None:
        def transition(tx: Transaction) -> None:
            if not note_newest(tx, block_id):
                raise BlockDiscarded(f"the number of block {block_id} was used before")
            costs = {"eps_sec": policy.eps_sec, "eps_cor": policy.eps_cor}
            tx.audit("block_begun", block_id=block_id, **costs)
            spend_block(tx, policy)

        self._db.write(transition)

    def state(self, block_id: BlockId) -> BlockState:
        return self._db.read(lambda connection: state_of(connection, block_id))

    def pending(self) -> tuple[BlockId, ...]:
        def question(connection: sqlite3.Connection) -> tuple[BlockId, ...]:
            rows = connection.execute(
                "SELECT block_id FROM blocks WHERE state = 'pending' ORDER BY block_id"
            )
            return tuple(BlockId(row[0]) for row in rows)

        return self._db.read(question)

    def store_pending(self, block: NewBlock) -> None:
        parts = cut_block(block)

        def transition(tx: Transaction) -> None:
            if self._is_stored(tx.connection, block):
                return
            note_newest(tx, block.block_id)
            self._insert(tx, block)
            for sender, data in parts.segments.items():
                add_segment(tx, cut_segment(sender, Lane.POOL, block.block_id, data))
            put_chunks(tx, block.block_id, parts.stored)
            tx.count("link_s", block.link_s)
            tx.audit(
                "block_pending",
                block_id=block.block_id,
                n_secret=block.layout.n_secret,
                segment_pads=block.layout.segment_pads,
                provenance=block.provenance.value,
                plan_digest=block.plan_digest,
                tallies_digest=block.tallies_digest,
            )

        self._db.write(transition)

    def make_available(self, block_id: BlockId) -> None:
        if self.state(block_id) is not BlockState.AVAILABLE:
            self._db.write(lambda tx: make_available(tx, block_id, "confirmed"))

    def destroy(self, block_id: BlockId, reason: str) -> None:
        self._db.write(lambda tx: destroy_block(tx, block_id, reason))

    def record_discarded(self, block_id: BlockId, reason: str, detail: str) -> None:
        def transition(tx: Transaction) -> None:
            note_newest(tx, block_id)
            tx.count(f"blocks {reason}")
            tx.note("last_discard", f"{reason}: {detail}")
            tx.audit("block_discarded", block_id=block_id, reason=reason, detail=detail)

        self._db.write(transition)

    def free_bytes(self) -> int:
        return self._db.read(own_free_bytes)

    def provenances(self) -> tuple[Provenance, ...]:
        def question(connection: sqlite3.Connection) -> tuple[Provenance, ...]:
            rows = connection.execute(
                "SELECT DISTINCT provenance FROM blocks INDEXED BY blocks_free"
                " WHERE state = 'available' AND own_next < own_stop"
            )
            own = {Provenance(row[0]) for row in rows}
            return tuple(sorted(own | gained_provenances(connection)))

        return self._db.read(question)

    def unspent(self) -> tuple[BlockId, ...]:
        return self._db.read(unspent_blocks)

    def stored_bytes(self) -> int:
        return self._db.read(stored_bytes)

    def note_paused(self, paused: bool) -> None:
        def transition(tx: Transaction) -> None:
            before = tx.connection.execute(
                "SELECT value FROM tally WHERE name = 'paused'"
            ).fetchone()
            if bool(before and before[0]) == paused:
                return
            tx.note("paused", paused)
            tx.audit(
                "link_paused" if paused else "link_resumed", stored=stored_bytes(tx.connection)
            )

        self._db.write(transition)

    def note_light(self, light: PairLight) -> None:
        told = json.dumps(light.as_fields())
        self._db.write(lambda tx: tx.note("pair_light", told))

    def _is_stored(self, connection: sqlite3.Connection, block: NewBlock) -> bool:
        """Raises BlockDiscarded when it is destroyed, ValueError when another one stands there."""
        row = connection.execute(
            "SELECT state, plan_digest, n_secret, segment_pads FROM blocks WHERE block_id = ?",
            (block.block_id,),
        ).fetchone()
        if row is None:
            return False
        if row[0] == BlockState.DESTROYED:
            raise BlockDiscarded(f"block {block.block_id} is destroyed here")
        if row[1:] != (block.plan_digest, block.layout.n_secret, block.layout.segment_pads):
            raise ValueError(f"another block is stored under number {block.block_id}")
        return True

    def _insert(self, tx: Transaction, block: NewBlock) -> None:
        start, stop = block.layout.half(self._side)
        peer_start, peer_stop = block.layout.half(self._side.other)
        tx.write(
            "INSERT INTO blocks (block_id, state, n_secret, segment_pads, provenance, plan_digest,"
            " tallies_digest, certificate, qber, link_s, stored_at, own_next, own_stop, peer_free)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            block.block_id,
            BlockState.PENDING.value,
            block.layout.n_secret,
            block.layout.segment_pads,
            block.provenance.value,
            block.plan_digest,
            block.tallies_digest,
            block.certificate,
            block.qber,
            block.link_s,
            tx.now,
            start,
            stop,
            peer_stop - peer_start,
        )


def own_free_bytes(connection: sqlite3.Connection) -> int:
    """Of this site's half over all available blocks, and of what the peer ceded."""
    row = connection.execute(
        "SELECT coalesce(sum(own_stop - own_next), 0) FROM blocks INDEXED BY blocks_free"
        " WHERE state = 'available' AND own_next < own_stop"
    ).fetchone()
    return int(row[0]) + gained_free_bytes(connection)


def stored_bytes(connection: sqlite3.Connection) -> int:
    """Of available blocks, whoever owns them, that are in no key."""
    return own_free_bytes(connection) + peer_free_bytes(connection)


def unspent_blocks(connection: sqlite3.Connection) -> tuple[BlockId, ...]:
    """Available blocks with a byte that is in no key, ascending."""
    rows = connection.execute(
        "SELECT block_id FROM blocks INDEXED BY blocks_free"
        " WHERE state = 'available' AND own_next < own_stop"
        " UNION SELECT block_id FROM blocks INDEXED BY blocks_peer_free"
        " WHERE state = 'available' AND peer_free > 0"
        " UNION SELECT block_id FROM cessions INDEXED BY cessions_free WHERE next < free_stop"
    )
    return tuple(sorted(BlockId(row[0]) for row in rows))


def peer_free_bytes(connection: sqlite3.Connection) -> int:
    """Of the peer's half, as far as its allocations are known here."""
    row = connection.execute(
        "SELECT coalesce(sum(peer_free), 0) FROM blocks INDEXED BY blocks_peer_free"
        " WHERE state = 'available' AND peer_free > 0"
    ).fetchone()
    return int(row[0])


def free_bytes_by_owner(connection: sqlite3.Connection, side: Side) -> dict[str, int]:
    return {
        side.value: own_free_bytes(connection),
        side.other.value: peer_free_bytes(connection),
    }
