"""Standing for the other site's log: its new head is signed only when it grew from the last one.

What was signed is remembered durably before the answer leaves. A log that was shortened, or that
tells this site another story than before, gets no signature, and leaves an alarm.
"""

from dataclasses import dataclass

from keyferry.audit.checkpoints import alarm
from keyferry.audit.notes import NOTHING, Checkpoint, check_note, cosigned, public_key, read_note
from keyferry.audit.peer_keys import PeerKeys
from keyferry.audit.signing import SigningFile, own_keys
from keyferry.audit.tree import check_consistency
from keyferry.store.database import Database
from keyferry.store.transaction import Transaction
from qkd_core.errors import NotProved
from qkd_core.types.audit import (
    CheckpointAnswer,
    CheckpointOffer,
    Countersigned,
    NotCountersigned,
    OtherHead,
)


@dataclass(frozen=True, slots=True)
class Countersigner:
    """Answers the other site; each answer is one transition of this site's store."""

    database: Database
    signing: SigningFile
    peer: PeerKeys

    def countersign(self, offer: CheckpointOffer) -> CheckpointAnswer:
        """Raises AuditUnavailable, ConfigError (this site's own signing key)."""
        return self.database.write(lambda tx: self._answer(tx, offer))

    def _answer(self, tx: Transaction, offer: CheckpointOffer) -> CheckpointAnswer:
        try:
            return self._checked(tx, offer)
        except NotProved as refusal:
            self._alarm(tx, str(refusal))
            return NotCountersigned(reason=str(refusal))

    def _checked(self, tx: Transaction, offer: CheckpointOffer) -> CheckpointAnswer:
        """Nothing is written before all is proved, but for a key that is pinned."""
        key = self.peer.newest(tx, offer.keys)
        checkpoint = check_note(offer.note, public_key(key.public_key))
        last, note = self._last(tx, checkpoint.origin)
        if offer.old_size != last.size:
            return OtherHead(size=last.size, note=note)
        check_consistency(last.size, last.root, checkpoint.size, checkpoint.root, offer.proof)
        self._remember(tx, checkpoint, offer.note)
        own = self.signing.establish(tx)
        line = cosigned(checkpoint, self.signing.kme_id, int(tx.now), own)
        return Countersigned(line=line, keys=own_keys(tx.connection))

    def _last(self, tx: Transaction, origin: str) -> tuple[Checkpoint, str]:
        """The head last signed for this log. Raises NotProved when another log came after it."""
        link = tx.connection.execute("SELECT link_id FROM site").fetchone()[0]
        if not origin.startswith(f"{self.peer.kme_id}/{link}/"):
            raise NotProved(f"{self.peer.kme_id} offers a checkpoint of the log {origin!r}")
        row = tx.connection.execute(
            "SELECT origin, note FROM peer_heads ORDER BY position DESC LIMIT 1"
        ).fetchone()
        if row is not None and row[0] == origin:
            return read_note(row[1]), row[1]
        known = tx.connection.execute(
            "SELECT 1 FROM peer_heads WHERE origin = ?", (origin,)
        ).fetchone()
        if known:
            raise NotProved(f"the log {origin} ended: {row[0]} began after it")
        return NOTHING, ""

    def _remember(self, tx: Transaction, checkpoint: Checkpoint, note: str) -> None:
        changed = tx.write(
            "UPDATE peer_heads SET size = ?, note = ? WHERE origin = ?",
            *(checkpoint.size, note, checkpoint.origin),
        )
        if changed:
            return
        (before,) = tx.connection.execute(
            "SELECT coalesce(max(position), 0) FROM peer_heads"
        ).fetchone()
        tx.write(
            "INSERT INTO peer_heads (origin, size, note) VALUES (?, ?, ?)",
            *(checkpoint.origin, checkpoint.size, note),
        )
        origin, size = checkpoint.origin, checkpoint.size
        tx.audit("peer_log_began", origin=origin, size=size, logs_before=before)

    def _alarm(self, tx: Transaction, reason: str) -> None:
        """Once for each reason in a row: the other site asks again each minute."""
        last = tx.connection.execute(
            "SELECT value FROM tally WHERE name = 'last_refused_checkpoint'"
        ).fetchone()
        if last is None or last[0] != reason:
            tx.note("last_refused_checkpoint", reason)
            alarm(tx, "checkpoint of the peer refused", reason)
