"""Having this site's checkpoints countersigned by the other one, when it can be reached."""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from keyferry.audit.checkpoints import Alarms, newest_checkpoint
from keyferry.audit.log_tree import LogTree
from keyferry.audit.notes import Checkpoint, check_cosignature, check_note, public_key, read_note
from keyferry.audit.peer_keys import PeerKeys
from keyferry.audit.signing import own_keys
from keyferry.audit.tree import consistency_proof, root_at
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

log = logging.getLogger(__name__)

AskPeer = Callable[[CheckpointOffer], CheckpointAnswer]
"""Raises PeerUnavailable, PeerViolation."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks for one site's store."""

    database: Database
    peer: PeerKeys
    ask: AskPeer
    alarms: Alarms

    def newest_is_countersigned(self) -> bool:
        """Also when there is no checkpoint at all."""
        (n,) = self.database.rows(
            "SELECT count(*) FROM checkpoints WHERE countersignature IS NULL AND size ="
            " (SELECT max(size) FROM checkpoints)"
        )[0]
        return n == 0

    def countersign_newest(self) -> bool:
        """Whether the newest checkpoint is countersigned now.

        Raises PeerUnavailable, PeerViolation, AuditUnavailable.
        """
        if self.newest_is_countersigned():
            return True
        offer = self.database.read(self._offer)
        answer = self.ask(offer)
        if isinstance(answer, OtherHead):
            if not self._agrees(answer):
                return False
            size = answer.size
            offer = self.database.read(lambda connection: self._offer(connection, size))
            answer = self.ask(offer)
        return self._keep(offer, answer)

    def _offer(
        self, connection: sqlite3.Connection, old_size: int | None = None
    ) -> CheckpointOffer:
        """From the last head that the other site signed, as known here unless it said another."""
        checkpoint, note = newest_checkpoint(connection)
        if old_size is None:
            (old_size,) = connection.execute(
                "SELECT coalesce(max(size), 0) FROM checkpoints WHERE countersignature IS NOT NULL"
            ).fetchone()
        proof = consistency_proof(LogTree(connection).node_at, old_size, checkpoint.size)
        return CheckpointOffer(
            note=note, old_size=old_size, proof=tuple(proof), keys=own_keys(connection)
        )

    def _agrees(self, head: OtherHead) -> bool:
        """Whether the head that the other site remembers is one of this log; else an alarm.

        Its note carries our own signature, so it is evidence: this store is older than it, or was
        written anew.
        """
        try:
            self.database.read(lambda connection: _check_is_ours(connection, head))
        except NotProved as error:
            self.alarms.raise_once("the peer remembers another log", str(error))
            return False
        return True

    def _keep(self, offer: CheckpointOffer, answer: CheckpointAnswer) -> bool:
        match answer:
            case Countersigned():
                try:
                    self.database.write(lambda tx: self._store(tx, offer, answer))
                except NotProved as error:
                    self.alarms.raise_once("countersignature refused", str(error))
                    return False
                self.alarms.over("checkpoint refused by the peer")
                return True
            case NotCountersigned(reason=reason):
                self.alarms.raise_once("checkpoint refused by the peer", reason)
            case OtherHead():  # another process of this site asked at the same moment
                log.info("the peer signed another head meanwhile")
        return False

    def _store(self, tx: Transaction, offer: CheckpointOffer, answer: Countersigned) -> None:
        key = self.peer.newest(tx, answer.keys)
        checkpoint = read_note(offer.note)
        name, public = self.peer.kme_id, public_key(key.public_key)
        check_cosignature(checkpoint, answer.line, name, public)
        tx.write(
            "UPDATE checkpoints SET countersignature = ? WHERE size = ? AND note = ?",
            *(answer.line, checkpoint.size, offer.note),
        )


def _check_is_ours(connection: sqlite3.Connection, head: OtherHead) -> None:
    """Raises NotProved unless ``head`` is nothing, or a head that this log had."""
    if head.size == 0:
        return
    remembered = _signed_by_us(connection, head)
    newest, _ = newest_checkpoint(connection)
    if remembered.size > newest.size:
        raise NotProved(
            f"the peer signed a head of {remembered.size} records of {remembered.origin}, this"
            f" store signs {newest.size}: it is older than what the peer remembers"
        )
    if root_at(LogTree(connection).node_at, remembered.size) != remembered.root:
        raise NotProved(
            f"the first {remembered.size} records of this store are not those of which the peer"
            " signed the head: it was written anew"
        )


def _signed_by_us(connection: sqlite3.Connection, head: OtherHead) -> Checkpoint:
    for key in own_keys(connection):
        try:
            checkpoint = check_note(head.note, public_key(key.public_key))
        except NotProved:
            continue
        if checkpoint.size == head.size:
            return checkpoint
    raise NotProved("the peer shows a head that no key of this site signed")
