"""`WitnessStore` over SQLite."""

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from keyferry.store.block_rows import destroy_block
from keyferry.store.blocks import unspent_blocks
from keyferry.store.database import Database
from keyferry.store.evidence import Evidence
from keyferry.store.losses import burn_key, zeroise_here
from keyferry.store.preshared import install
from keyferry.store.runs import (
    close_all,
    let_all,
    newest_proved,
    open_bytes,
    open_pads,
    open_parts,
    open_segments,
    pass_all,
    take_pads,
    take_ranges,
)
from keyferry.store.transaction import Transaction
from keyferry.store.witness_rows import (
    forget_peer,
    is_news,
    is_recorded,
    own_marks,
    remember,
    remembered,
    require_open,
)
from qkd_core.errors import PeerUnavailable, RolledBack
from qkd_core.keys.witness import (
    PARKED_AFTER_S,
    RUN_BYTES,
    RUN_PADS,
    is_adopted,
    pads_to_open,
    ranges_to_open,
    rolled_back,
    waits_for_rekey,
)
from qkd_core.types.authentication import SETTLING_PADS, Lane
from qkd_core.types.ids import KeyId
from qkd_core.types.witness import Marks, PadRun, Proof, Remembered, Runs, SiteState

log = logging.getLogger(__name__)

FRESH_KEYS = (
    "SELECT key_id FROM fresh JOIN keys USING (key_id) WHERE keys.state = 'allocated'"
    " AND NOT EXISTS (SELECT 1 FROM refreshes WHERE refreshes.key_id = keys.key_id"
    " AND refreshes.state NOT IN ('done', 'aborted'))"
)
UNTOLD_KEYS = (
    "SELECT key_id FROM outbox JOIN keys USING (key_id)"
    " WHERE NOT EXISTS (SELECT 1 FROM refreshes WHERE refreshes.key_id = keys.key_id"
    " AND refreshes.state NOT IN ('done', 'aborted'))"
)
"""Keys of refresh runs are left out: a run publishes the same bytes under the same generation."""


class SqliteWitness:
    def __init__(self, database: Database, evidence: Evidence) -> None:
        self._db, self._site = database, database.site
        self.evidence = evidence

    # ------------------------------------------------------------------ this site
    def marks(self) -> Marks:
        return self._db.read(own_marks)

    def require_open(self) -> None:
        self._db.read(require_open)

    def judge(self, told: Remembered) -> None:
        """Compare what the peer remembers of this site; an older site is rolled back for good.

        Raises RolledBack; PeerUnavailable when the peer has to be rekeyed as well.
        """

        def question(connection: sqlite3.Connection) -> str | None:
            state, reason = connection.execute("SELECT state, reason FROM witness").fetchone()
            if state == SiteState.ROLLED_BACK:
                return str(reason)
            own = own_marks(connection)
            if waits_for_rekey(own, told):
                raise PeerUnavailable("the peer knows an earlier store: it has to be rekeyed too")
            return rolled_back(own, told, lambda role, head: is_recorded(connection, role, head))

        why = self._db.read(question)
        if why is not None:
            self.roll_back(why)
            raise RolledBack(f"this site is rolled back: {why}")

    def roll_back(self, reason: str) -> None:
        """Nothing is delivered, consumed or tagged from now on, until the site starts empty."""

        def transition(tx: Transaction) -> bool:
            changed = tx.write(
                "UPDATE witness SET state = 'rolled_back', reason = ? WHERE state <> 'rolled_back'",
                reason,
            )
            if changed:
                tx.alarm("rolled_back")
                tx.audit("rolled_back", reason=reason)
            return bool(changed)

        if self._db.write(transition):
            log.critical("this site is ROLLED BACK and delivers nothing: %s", reason)

    def enter(self, era: int, proof: Proof) -> None:
        """The peer has let this site open, as ``era``; without proof, what was uncertain is burnt.

        Raises RolledBack.
        """

        def transition(tx: Transaction) -> int:
            state, old_era = tx.connection.execute("SELECT state, era FROM witness").fetchone()
            if state == SiteState.ROLLED_BACK:
                raise RolledBack("this site is rolled back")
            tx.write("UPDATE witness SET state = 'open', era = ?, closing = 0", era)
            burnt = 0
            if proof is Proof.NONE:
                close_all(tx, self._site.side)
                burnt = self._burn_fresh(tx)
            if (state, old_era) != (SiteState.OPEN, era):
                tx.audit("site_opened", proof=proof.value, era=era, burnt=burnt)
            return burnt

        burnt = self._db.write(transition)
        if proof is Proof.NONE:
            log.warning(
                "this site does not know how it ended: %d held keys are burnt, open runs passed",
                burnt,
            )

    def begin_closing(self) -> None:
        self._db.write(lambda tx: tx.write("UPDATE witness SET closing = 1"))

    def close(self) -> Marks:
        """Deliver nothing more; the final marks, for the peer."""

        def transition(tx: Transaction) -> None:
            if tx.write("UPDATE witness SET state = 'closed', closing = 1 WHERE state = 'open'"):
                tx.audit("site_closed")

        self._db.write(transition)
        return self.marks()

    def runs_wanted(self, n_bytes: int = 0, lanes: Sequence[Lane] = ()) -> Runs:
        """What to ask the peer for, to have ``n_bytes`` and a run of each lane's pads open."""

        def question(connection: sqlite3.Connection) -> Runs:
            pads: list[PadRun] = []
            for lane in lanes:
                segments = open_segments(connection, self._site.side, lane)
                pads += pads_to_open(segments, RUN_PADS[lane])
                proved = newest_proved(connection, self._site.side, lane)
                pads += pads_to_open(proved, SETTLING_PADS)
            return Runs(ranges_to_open(open_parts(connection), n_bytes), tuple(pads))

        return self._db.read(question)

    def is_low(self, of_bytes: bool, lanes: Sequence[Lane]) -> bool:
        """Whether less than half of a run is open, of bytes or of a lane's pads."""

        def question(connection: sqlite3.Connection) -> bool:
            half = RUN_BYTES // 2
            if of_bytes and open_bytes(connection, half) < half:
                return True
            return any(
                open_pads(connection, self._site.side, lane) < RUN_PADS[lane] // 2 for lane in lanes
            )

        return self._db.read(question)

    def take_runs(self, asked: Runs, opened: Runs) -> None:
        """The peer has acknowledged ``opened`` of what was ``asked``."""

        def transition(tx: Transaction) -> None:
            for part in opened.ranges:
                for wanted in asked.ranges:
                    if wanted.block_id == part.block_id and wanted.start <= part.start:
                        take_ranges(tx, self._site, wanted, part)
            for run in opened.pads:
                take_pads(tx, self._site.side, run)

        self._db.write(transition)

    def park(self, now: float) -> int:
        """Let go of held keys that were not fetched for a while: to consume them, ask the peer."""
        return self._db.write(
            lambda tx: tx.write("DELETE FROM fresh WHERE since <= ?", now - PARKED_AFTER_S)
        )

    def ask_release(self, key_ids: Sequence[KeyId]) -> None:
        """Put down that the peer is asked, before it is: a store without this record is older."""
        ids = list(map(str, key_ids))
        self._db.write(lambda tx: tx.audit("release_asked", key_ids=ids))

    def take_release(self, key_ids: Sequence[KeyId]) -> None:
        """The peer has acknowledged: the keys may be consumed without asking again."""

        def transition(tx: Transaction) -> None:
            for key_id in key_ids:
                tx.write("INSERT OR IGNORE INTO fresh VALUES (?, ?)", key_id, tx.now)

        self._db.write(transition)

    # ------------------------------------------------------------------ the peer
    def remembered(self) -> Remembered:
        return self._db.read(remembered)

    def remember(self, marks: Marks) -> None:
        """Durably keep what the peer told with a message; a stranger's marks are left out."""
        if not self._db.read(lambda connection: is_news(connection, marks)):
            return

        def transition(tx: Transaction) -> None:
            if remembered(tx.connection).incarnation == marks.incarnation:
                remember(tx, marks)

        self._db.write(transition)

    def let_open(self, marks: Marks, proof: Proof) -> int:
        """The peer starts; returns its era. What it may have done without proof is given up.

        Raises RolledBack when this site does not know the peer's incarnation.
        """

        def transition(tx: Transaction) -> int:
            known = remembered(tx.connection)
            if not is_adopted(known, marks.incarnation):
                raise RolledBack(
                    f"incarnation {marks.incarnation} of the peer is not the one known here"
                )
            if known.incarnation is None:
                tx.audit("peer_adopted", incarnation=marks.incarnation)
            era = known.era
            if proof is Proof.NONE:
                era += 1
                tx.write("UPDATE witness_peer SET era = ?", era)
                pass_all(tx)
                orphans = self._give_up_untold(tx)
                tx.alarm("peer_unclean_start")
                tx.audit("peer_unclean_start", era=era, keys=orphans)
            tx.write("UPDATE witness_peer SET state = 'open', closing = 0")
            remember(tx, replace(marks, state=SiteState.OPEN, closing=False))
            return era

        return self._db.write(transition)

    def let_run(self, marks: Marks, wanted: Runs) -> Runs:
        def transition(tx: Transaction) -> Runs:
            self._hear(tx, marks)
            return let_all(tx, self._site.side.other, wanted)

        return self._db.write(transition)

    def let_release(self, marks: Marks) -> None:
        self._db.write(lambda tx: self._hear(tx, marks))

    def is_untold(self, key_id: KeyId) -> bool:
        """Whether the peer has not acknowledged this key of ours: only then may it pull it."""
        return bool(self._db.rows("SELECT 1 FROM outbox WHERE key_id = ?", key_id))

    # ------------------------------------------------------------------ starting empty
    def start_empty(self, reason: str) -> None:
        """Erase all stored key, pads and held keys, as a new incarnation that knows no peer."""
        self._db.write(lambda tx: start_empty(tx, reason))

    def rekey(self, secret: bytes, reason: str = "rekey") -> None:
        """Start empty with a new pre-shared secret; the peer does the same. Raises ConfigError."""

        def transition(tx: Transaction) -> None:
            start_empty(tx, reason)
            install(tx, secret)

        self._db.write(transition)

    # ------------------------------------------------------------------
    def _hear(self, tx: Transaction, marks: Marks) -> None:
        """Keep the marks of the peer, which must be the one that was let open."""
        known = remembered(tx.connection)
        if (known.incarnation, known.era) != (marks.incarnation, marks.era):
            raise PeerUnavailable(
                f"the peer asks as {marks.incarnation} of era {marks.era},"
                f" known here is {known.incarnation} of era {known.era}"
            )
        remember(tx, marks)

    def _burn_fresh(self, tx: Transaction) -> int:
        """Keys that may have been consumed since the peer heard of this site; the peer is told."""
        rows = tx.connection.execute(FRESH_KEYS).fetchall()
        for (key_id,) in rows:
            burn_key(tx, self._site, KeyId(key_id), "perhaps used before an unclean end")
        tx.write("DELETE FROM fresh")
        tx.count("keys_burnt_unclean", len(rows))
        return len(rows)

    def _give_up_untold(self, tx: Transaction) -> int:
        """Keys that the peer may have had and lost again: nobody is to get them a second time."""
        rows = tx.connection.execute(UNTOLD_KEYS).fetchall()
        for (key_id,) in rows:
            tx.write("DELETE FROM outbox WHERE key_id = ?", key_id)
            burn_key(tx, self._site, KeyId(key_id), "perhaps used before the peer's unclean end")
        tx.count("keys_burnt_unclean", len(rows))
        return len(rows)


def start_empty(tx: Transaction, reason: str) -> None:
    """Erase all key and become a new incarnation, inside the caller's transaction."""
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
