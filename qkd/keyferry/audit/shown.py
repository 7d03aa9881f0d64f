"""One key's records, each with the proof that a signed checkpoint covers it, for the other site."""

import sqlite3
import threading
from dataclasses import dataclass, field

from keyferry.audit.chain import COLUMNS, Record, canonical
from keyferry.audit.countersigning import Countersigner
from keyferry.audit.log_tree import LogTree, entry_hash
from keyferry.audit.notes import check_note, public_key
from keyferry.audit.pages import page_at
from keyferry.audit.signing import own_keys
from keyferry.audit.tree import check_inclusion, inclusion_proof
from keyferry.store.database import Reader
from qkd_core.errors import AuditUnavailable, NotProved
from qkd_core.types.audit import (
    CheckpointAnswer,
    CheckpointOffer,
    KeyRecords,
    LogPage,
    LogPlace,
    ShownRecord,
    SigningKey,
)
from qkd_core.types.ids import KeyId

MOST_RECORDS = 500


def records_naming(connection: sqlite3.Connection, key_id: KeyId) -> list[Record]:
    """Walks over the whole log: there is no index, so that a delivery need not keep one."""
    named = f'"key_id":{canonical(key_id)}'
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM audit WHERE instr(event, ?) ORDER BY time, chain, seq LIMIT ?",  # noqa: S608
        (named, MOST_RECORDS),
    )
    return [Record(*row) for row in rows]


def shown(connection: sqlite3.Connection, kme_id: str, key_id: KeyId) -> KeyRecords:
    """What a store, or a bundle, holds of a key, proved by its newest checkpoint."""
    row = connection.execute(
        "SELECT size, note, countersignature FROM checkpoints ORDER BY size DESC LIMIT 1"
    ).fetchone()
    size, note, countersignature = row or (0, "", None)
    tree = LogTree(connection)

    def proved(record: Record) -> ShownRecord:
        index = tree.index_of(record.chain, record.seq)
        proof = [] if index is None else inclusion_proof(tree.node_at, index, size)
        return ShownRecord(line=record.line, index=index, proof=tuple(proof))

    return KeyRecords(
        kme_id=kme_id,
        records=tuple(proved(record) for record in records_naming(connection, key_id)),
        note=note,
        countersignature=countersignature or "",
        keys=own_keys(connection),
    )


def check_shown(
    record: Record, index: int, proof: tuple[bytes, ...], note: str, key: SigningKey
) -> None:
    """Raises NotProved unless the checkpoint, signed by ``key``, covers the record."""
    checkpoint = check_note(note, public_key(key.public_key))
    if record.recomputed != record.hash:
        raise NotProved(f"{record.chain} record {record.seq} was changed")
    leaf = entry_hash(record.hash, record.mac)
    check_inclusion(leaf, index, checkpoint.size, proof, checkpoint.root)


@dataclass(frozen=True, slots=True)
class PeerAudit:
    """What the API lets the other site ask of this one: `qkd_api.audit.AuditOfSite`."""

    countersigner: Countersigner
    reader: Reader  # its own: a walk over the log must not hold up the status of the site
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def countersign(self, offer: CheckpointOffer) -> CheckpointAnswer:
        return self.countersigner.countersign(offer)

    def records_of(self, key_id: KeyId) -> KeyRecords:
        """One walk at a time. Raises AuditUnavailable."""
        if not self._busy.acquire(blocking=False):
            raise AuditUnavailable("another walk over the audit is under way")
        try:
            with self.reader.snapshot() as connection:
                return shown(connection, self.countersigner.signing.kme_id, key_id)
        finally:
            self._busy.release()

    def log_page(self, place: LogPlace | None) -> LogPage:
        """Short, so it waits for its turn. Raises AuditUnavailable."""
        with self.reader.snapshot() as connection:
            return page_at(connection, place)
