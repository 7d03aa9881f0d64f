"""Making checkpoints: what is new is put in order, the tree over it is signed.

The reading and hashing happens beside the writers; only the result is written in a transaction,
so that no delivery waits for a checkpoint. Source: `architecture.md`, section 6.
"""

import logging
import sqlite3
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyferry.audit.log_tree import Growth, growth_of, keep_growth, uncovered
from keyferry.audit.notes import NOTHING, Checkpoint, read_note, signed
from keyferry.audit.signing import SigningFile, own_keys
from keyferry.store.database import Database, Reader
from keyferry.store.schema import SiteRow
from keyferry.store.transaction import Transaction
from qkd_core.errors import StoreDamaged
from qkd_core.ports import Clock
from qkd_core.types.audit import SigningKey

log = logging.getLogger(__name__)

ALARM = "audit_alarm"


@dataclass(frozen=True, slots=True)
class Draft:
    """A checkpoint that is computed and not yet signed; ``key``: the one in force then."""

    origin: str
    growth: Growth
    key: SigningKey


def origin_of(connection: sqlite3.Connection, site: SiteRow) -> str:
    """The name under which this site's log is countersigned."""
    (log_id,) = connection.execute("SELECT log_id FROM audit_log").fetchone()
    return f"{site.kme_id}/{site.link_id}/{log_id}"


def newest_checkpoint(connection: sqlite3.Connection) -> tuple[Checkpoint, str]:
    """The newest checkpoint and its note; `NOTHING` before the first."""
    row = connection.execute("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1").fetchone()
    return (read_note(row[0]), row[0]) if row else (NOTHING, "")


class Alarms:
    """Records of what should never be; each thing once in the life of a process."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._said: set[str] = set()

    def raise_once(self, kind: str, detail: str) -> None:
        if kind in self._said:
            return
        self._db.write(lambda tx: alarm(tx, kind, detail))
        self._said.add(kind)

    def over(self, kind: str) -> None:
        """It is as it should be again: the next time is another alarm."""
        self._said.discard(kind)


def alarm(tx: Transaction, kind: str, detail: str) -> None:
    log.critical("audit: %s: %s", kind, detail)
    tx.alarm("audit")
    tx.audit(ALARM, kind=kind, detail=detail)


class Checkpoints:
    """Makes the checkpoints of one site's store."""

    def __init__(self, database: Database, signing: SigningFile, clock: Clock) -> None:
        self._db, self._signing, self._clock = database, signing, clock
        self._reader = Reader(database.path)
        self._alarms = Alarms(database)

    def close(self) -> None:
        self._reader.close()

    def make(self) -> Checkpoint | None:
        """A checkpoint over all records that are there; None when nothing is new.

        Raises StoreDamaged when what the last one signed is not there any more, ConfigError when
        the signing key is not the store's, AuditUnavailable.
        """
        with self._reader.snapshot() as connection:
            if not uncovered(connection):
                return None
        self._db.write(self._prepare)
        draft = self._draft()
        key = self._signing.read(draft.key)
        return self._db.write(lambda tx: self._keep(tx, draft, key))

    def _prepare(self, tx: Transaction) -> None:
        """Records that a checkpoint brings along: the first key, and what the other site showed."""
        self._signing.establish(tx)
        heads = tx.connection.execute(
            "SELECT origin, size, note FROM peer_heads WHERE size > recorded"
        ).fetchall()
        for origin, size, note in heads:
            root = read_note(note).root.hex()
            tx.audit("peer_checkpoint", origin=origin, size=size, root=root)
            tx.write("UPDATE peer_heads SET recorded = ? WHERE origin = ?", size, origin)

    def _draft(self) -> Draft:
        with self._reader.snapshot() as connection:
            last, _ = newest_checkpoint(connection)
            origin = origin_of(connection, self._db.site)
            try:
                growth = growth_of(connection, last.size)
            except LookupError as error:
                what = str(error)
            else:
                if growth.old_root == last.root:
                    return Draft(origin, growth, own_keys(connection)[-1])
                what = f"the first {last.size} records are not those of the last checkpoint"
        self._alarms.raise_once("records changed", what)
        raise StoreDamaged(f"no checkpoint is made: {what}")

    def _keep(self, tx: Transaction, draft: Draft, key: Ed25519PrivateKey) -> Checkpoint | None:
        """Nothing when another process made one meanwhile."""
        last, _ = newest_checkpoint(tx.connection)
        frontier = draft.growth.frontier
        if last.size != draft.growth.old_size:
            return None
        checkpoint = Checkpoint(draft.origin, frontier.size, frontier.root(), int(tx.now))
        keep_growth(tx.connection, draft.growth)
        tx.write(
            "INSERT INTO checkpoints (size, note) VALUES (?, ?)",
            checkpoint.size,
            signed(checkpoint, key),
        )
        return checkpoint
