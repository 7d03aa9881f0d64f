"""`WitnessStore` over SQLite; each method is one transition, of this site or about its peer."""

import logging
from collections.abc import Sequence

from keyferry.store import witness_peer, witness_site
from keyferry.store.database import Database
from keyferry.store.evidence import Evidence
from keyferry.store.preshared import install
from keyferry.store.runs import let_all
from keyferry.store.transaction import Transaction
from keyferry.store.witness_rows import is_news, own_marks, remember, remembered
from qkd_core.errors import RolledBack
from qkd_core.keys.witness import PARKED_AFTER_S
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import KeyId
from qkd_core.types.witness import Marks, Proof, Remembered, Runs

log = logging.getLogger(__name__)


class SqliteWitness:
    """``evidence``: what the machine of this process remembers of the store."""

    def __init__(self, database: Database, evidence: Evidence) -> None:
        self._db, self._site = database, database.site
        self.evidence = evidence

    # ------------------------------------------------------------------ this site
    def marks(self) -> Marks:
        return self._db.read(own_marks)

    def judge(self, told: Remembered) -> None:
        why = self._db.read(lambda connection: witness_site.why_rolled_back(connection, told))
        if why is not None:
            self.roll_back(why)
            raise RolledBack(f"this site is rolled back: {why}")

    def roll_back(self, reason: str) -> None:
        """Nothing is delivered, consumed or tagged from now on, until the site starts empty."""
        if self._db.write(lambda tx: witness_site.roll_back(tx, reason)):
            log.critical("this site is ROLLED BACK and delivers nothing: %s", reason)

    def has_evidence(self) -> bool:
        # A store that lacks a record which was noted here was rolled back when it was opened.
        return self.evidence.was_open

    def enter(self, era: int, proof: Proof) -> None:
        burnt = self._db.write(lambda tx: witness_site.enter(tx, self._site, era, proof))
        self.evidence.mark_open()
        if proof is Proof.NONE:
            log.warning(
                "this site does not know how it ended: %d held keys are burnt, open runs passed",
                burnt,
            )

    def begin_closing(self) -> None:
        self._db.write(lambda tx: tx.write("UPDATE witness SET closing = 1"))

    def close(self) -> Marks:
        self._db.write(witness_site.close)
        return self.marks()

    def runs_wanted(self, n_bytes: int, lanes: Sequence[Lane]) -> Runs:
        side = self._site.side
        return self._db.read(lambda rows: witness_site.runs_wanted(rows, side, n_bytes, lanes))

    def is_low(self, of_bytes: bool, lanes: Sequence[Lane]) -> bool:
        side = self._site.side
        return self._db.read(lambda rows: witness_site.is_low(rows, side, of_bytes, lanes))

    def take_runs(self, asked: Runs, opened: Runs) -> None:
        self._db.write(lambda tx: witness_site.take_runs(tx, self._site, asked, opened))

    def park(self, now: float) -> int:
        return self._db.write(
            lambda tx: tx.write("DELETE FROM fresh WHERE since <= ?", now - PARKED_AFTER_S)
        )

    def ask_release(self, key_ids: Sequence[KeyId]) -> None:
        # Before the peer is asked, so that a store without this record is known to be older.
        ids = list(map(str, key_ids))
        self._db.write(lambda tx: tx.audit("release_asked", key_ids=ids))

    def take_release(self, key_ids: Sequence[KeyId]) -> None:
        def transition(tx: Transaction) -> None:
            for key_id in key_ids:
                tx.write("INSERT OR IGNORE INTO fresh VALUES (?, ?)", key_id, tx.now)

        self._db.write(transition)

    # ------------------------------------------------------------------ the peer
    def remembered(self) -> Remembered:
        return self._db.read(remembered)

    def remember(self, marks: Marks) -> None:
        def transition(tx: Transaction) -> None:
            if remembered(tx.connection).incarnation == marks.incarnation:
                remember(tx, marks)

        if self._db.read(lambda connection: is_news(connection, marks)):
            self._db.write(transition)

    def let_open(self, marks: Marks, proof: Proof) -> int:
        return self._db.write(lambda tx: witness_peer.let_open(tx, self._site, marks, proof))

    def let_run(self, marks: Marks, wanted: Runs) -> Runs:
        def transition(tx: Transaction) -> Runs:
            witness_peer.hear(tx, marks)
            return let_all(tx, self._site.side.other, wanted)

        return self._db.write(transition)

    def let_release(self, marks: Marks) -> None:
        self._db.write(lambda tx: witness_peer.hear(tx, marks))

    def is_untold(self, key_id: KeyId) -> bool:
        return bool(self._db.rows("SELECT 1 FROM outbox WHERE key_id = ?", key_id))

    # ------------------------------------------------------------------ starting empty
    def start_empty(self, reason: str) -> None:
        self._db.write(lambda tx: witness_site.start_empty(tx, reason))

    def rekey(self, secret: bytes, reason: str) -> None:
        def transition(tx: Transaction) -> None:
            witness_site.start_empty(tx, reason)
            install(tx, secret)

        self._db.write(transition)
