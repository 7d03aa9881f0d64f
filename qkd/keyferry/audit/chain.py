"""Audit records as a hash chain per writer process, each record with a MAC of its own.

A record's hash covers its chain, number, time, event and the hash before it, as canonical JSON
(sorted keys, no spaces, ASCII, floats as Python's repr gives them). A chain is named after its
writer's role and a running number, ``api-7``; its first record names the head of ``api-6`` and
carries the first MAC key, encrypted to the auditor. Source: `architecture.md`, section 6.
"""

import json
import os
import sqlite3
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from keyferry.audit.auditor import MAC_KEY_BYTES, mac_of, next_key, sealed_for
from keyferry.store.inserting import insert
from qkd_core.errors import AuditUnavailable
from qkd_core.types.keys import AuditEvent

ORIGIN = "0" * 64  # what stands before the first record of a chain
OPENED = "store_opened"
COLUMNS = "chain, seq, time, event, prev, hash, mac"
AUDIT_ROW = f"audit ({COLUMNS})"
MAC_KEY = "mac_key"  # the member of an opening that holds the first MAC key, encrypted

_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: object) -> str:
    return _encoder.encode(value)


def event_text(event: AuditEvent) -> str:
    return canonical({"action": event.action, "fields": event.fields})


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the audit. ``event`` is canonical JSON; ``mac`` is empty without an auditor."""

    chain: str
    seq: int
    time: float
    event: str
    prev: str
    hash: str
    mac: str = ""

    @property
    def text(self) -> str:
        """The canonical JSON of everything but hash and MAC; the event is nested as it stands."""
        return (
            f'{{"chain":{canonical(self.chain)},"event":{self.event},'
            f'"prev":"{self.prev}","seq":{self.seq},"time":{canonical(self.time)}}}'
        )

    @property
    def line(self) -> str:
        """Canonical JSON; without its members ``hash`` and ``mac`` it is what the hash covers."""
        mac = f'"mac":"{self.mac}",' if self.mac else ""
        return (
            f'{{"chain":{canonical(self.chain)},"event":{self.event},"hash":"{self.hash}",'
            f'{mac}"prev":"{self.prev}","seq":{self.seq},"time":{canonical(self.time)}}}'
        )

    @property
    def recomputed(self) -> str:
        return sha256(self.text.encode()).hexdigest()


def read_line(line: str) -> Record:
    """The record of a line. Raises ValueError unless the line is what `Record.line` writes."""
    try:
        members = json.loads(line)
        record = Record(**members | {"event": canonical(members["event"])})
        if record.line == line:
            return record
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no audit record: {error}") from error
    raise ValueError("an audit record is not in its canonical form")


@dataclass(frozen=True, slots=True)
class Head:
    """The newest record of a chain, and the MAC key of the next one; empty: no MACs."""

    seq: int = 0
    hash: str = ORIGIN
    key: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Chain:
    """The chain of this process. ``head`` is put back when a transaction is rolled back.

    Older MAC keys are let go as soon as what they were used for is durable.
    """

    role: str
    number: int
    head: Head = field(default_factory=Head)
    durable: Head = field(default_factory=Head)

    @property
    def name(self) -> str:
        return chain_name(self.role, self.number)

    def append(self, connection: sqlite3.Connection, time: float, event: AuditEvent) -> None:
        """Insert the next record, inside the caller's transaction."""
        insert(connection, AUDIT_ROW, [self.next_row(time, event)])

    def next_row(self, time: float, event: AuditEvent) -> tuple[object, ...]:
        """The next record as an `AUDIT_ROW`, for the caller to insert before it commits."""
        head = self.head
        draft = Record(self.name, head.seq + 1, time, event_text(event), head.hash, ORIGIN)
        text = draft.text
        digest = sha256(text.encode()).hexdigest()
        mac = mac_of(head.key, text) if head.key else ""
        self.head = Head(draft.seq, digest, next_key(head.key) if head.key else b"")
        return (draft.chain, draft.seq, draft.time, draft.event, draft.prev, digest, mac)

    def settled(self) -> None:
        """What was appended is committed: the keys before it are not needed any more."""
        self.durable = self.head

    def reload(self, connection: sqlite3.Connection) -> None:
        """Take the head from the table: after a failure it is what counts.

        Raises AuditUnavailable when records that were committed are not there any more.
        """
        found = head_of(connection, self.name)
        replaced = found.seq == self.durable.seq and found.hash != self.durable.hash
        if found.seq < self.durable.seq or replaced:
            raise AuditUnavailable(
                f"the audit ends at record {found.seq} of {self.name}, record {self.durable.seq}"
                " was written: another file was put in place of the store"
            )
        key = self.durable.key
        for _ in range(found.seq - self.durable.seq if key else 0):
            key = next_key(key)
        self.head = Head(found.seq, found.hash, key)
        self.settled()


def open_chain(
    connection: sqlite3.Connection,
    role: str,
    time: float,
    auditor: X25519PublicKey | None = None,
) -> Chain:
    """Begin the next chain of ``role`` with a record that names the head of the one before.

    The chain is ready once the caller has committed; it begins MACs when there is an ``auditor``.
    """
    newest = connection.execute(
        "SELECT coalesce(max(number), 0) FROM chains WHERE role = ?", (role,)
    ).fetchone()[0]
    connection.execute("INSERT INTO chains (role, number) VALUES (?, ?)", (role, newest + 1))
    before = chain_name(role, newest) if newest else ""
    head = head_of(connection, before)
    chain = Chain(role, newest + 1)
    fields: dict[str, str | int | float | list[str]] = {
        "role": role,
        "number": newest + 1,
        "previous_chain": before,
        "previous_seq": head.seq,
        "previous_hash": head.hash,
        "nonce": os.urandom(16).hex(),  # two copies of a store that both go on differ from here
    }
    if auditor is not None:
        first_key = os.urandom(MAC_KEY_BYTES)
        chain.head = Head(key=first_key)
        fields[MAC_KEY] = sealed_for(auditor, first_key, chain.name)
    chain.append(connection, time, AuditEvent(action=OPENED, fields=fields))
    chain.settled()
    return chain


def chain_name(role: str, number: int) -> str:
    return f"{role}-{number}"


def head_of(connection: sqlite3.Connection, chain: str) -> Head:
    row = connection.execute(
        "SELECT seq, hash FROM audit WHERE chain = ? ORDER BY seq DESC LIMIT 1", (chain,)
    ).fetchone()
    return Head(*row) if row else Head()
