"""`AgreementStore` over SQLite: ceding, burning at both sites, and the peer's notices of both."""

import sqlite3
from collections.abc import Sequence

from keyferry.store.ceding import cede, gain
from keyferry.store.claims import take_over
from keyferry.store.database import Database
from keyferry.store.losses import (
    burn_key,
    burn_known,
    destroy_at_both,
    destroy_told,
    orphan_block,
    zeroise_here,
)
from keyferry.store.notice_rows import notice_from, tell_peer
from keyferry.store.suspicions import note_repeat
from keyferry.store.transaction import Transaction
from qkd_core.errors import KeyNotFound, PeerViolation
from qkd_core.types.agreement import (
    BurntKey,
    Cession,
    DestroyedBlock,
    Notice,
    ZeroisedLink,
)
from qkd_core.types.ids import BlockId, KeyId
from qkd_core.types.keys import BlockState


class SqliteAgreement:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._site = database.site

    def cede(self, n_bytes: int) -> tuple[Cession, ...]:
        self._db.gate.check()  # a site that was put back does not know what is its own
        return self._db.write(lambda tx: cede(tx, self._site, n_bytes))

    def burn_key(self, key_id: KeyId, reason: str) -> str:
        return self._db.write(lambda tx: burn_key(tx, self._site, key_id, reason))

    def destroy_block(self, block_id: BlockId, reason: str) -> None:
        self._db.write(lambda tx: destroy_at_both(tx, self._site, block_id, reason))

    def orphan_block(self, block_id: BlockId, at_peer: BlockState) -> tuple[KeyId, ...]:
        return self._db.write(lambda tx: orphan_block(tx, self._site, block_id, at_peer))

    def zeroise_link(self, reason: str) -> None:
        def transition(tx: Transaction) -> None:
            newest = zeroise_here(tx, None, reason)
            tell_peer(tx, ZeroisedLink(newest, reason))

        self._db.write(transition)

    def notices(self, limit: int) -> tuple[Notice, ...]:
        def question(connection: sqlite3.Connection) -> tuple[Notice, ...]:
            rows = connection.execute(
                "SELECT notice_id, deed FROM notices ORDER BY position LIMIT ?", (limit,)
            )
            return tuple(notice_from(*row) for row in rows)

        return self._db.read(question)

    def told(self, notice_ids: Sequence[str]) -> None:
        def transition(tx: Transaction) -> None:
            for notice_id in notice_ids:
                tx.write("DELETE FROM notices WHERE notice_id = ?", notice_id)

        self._db.write(transition)

    def refused(self, notice: Notice, why: str) -> None:
        def transition(tx: Transaction) -> None:
            if tx.write("DELETE FROM notices WHERE notice_id = ?", notice.notice_id):
                tx.alarm("notice_refused")
                tx.audit("notice_refused", notice_id=notice.notice_id, detail=why)
                if isinstance(notice.deed, Cession):  # nobody's: the peer has burnt the block
                    destroy_told(tx, self._site, notice.deed.part.block_id, "cession refused")

        self._db.write(transition)

    def heed(self, notice: Notice) -> None:
        violation = self._db.write(lambda tx: self._heed(tx, notice))
        if violation is not None:
            raise violation

    def _heed(self, tx: Transaction, notice: Notice) -> PeerViolation | None:
        """A violation is returned, not raised: what it burns is to be committed.

        A copy of a notice that was refused is refused alike, without a second effect.
        """
        known = tx.connection.execute(
            "SELECT refused FROM heeded WHERE notice_id = ?", (notice.notice_id,)
        ).fetchone()
        if known:
            note_repeat(tx, "notice_repeated", notice_id=notice.notice_id)
            return None if known[0] is None else PeerViolation(known[0])
        match notice.deed:
            case Cession() as cession:
                violation = gain(tx, self._site, cession)
            case BurntKey() as burnt:
                violation = self._burn(tx, burnt)
            case DestroyedBlock(block_id, reason):
                violation = None
                destroy_told(tx, self._site, block_id, f"the peer: {reason}")
            case ZeroisedLink(newest, reason):
                violation = None
                zeroise_here(tx, newest, f"the peer: {reason}")
        why = None if violation is None else str(violation)
        tx.write("INSERT INTO heeded VALUES (?, ?)", notice.notice_id, why)
        return violation

    def _burn(self, tx: Transaction, burnt: BurntKey) -> PeerViolation | None:
        """Take the key over first if it is news, so that its bytes go and its ranges are taken."""
        try:
            if burnt.allocation.owner is not self._site.side:
                violation = take_over(tx, self._site, burnt.allocation)
                if violation is not None:
                    return violation
        except KeyNotFound:  # its block is not here: there is nothing to burn
            return None
        return burn_known(tx, self._site, burnt)
