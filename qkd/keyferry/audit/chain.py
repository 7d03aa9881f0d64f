"""Audit records as a hash chain per writer process.

A record's hash covers its chain, number, time, event and the hash before it, as canonical JSON
(sorted keys, no spaces, ASCII, floats as Python's repr gives them). A chain is named after its
writer's role and a running number, ``api-7``; its first record names the head of ``api-6``.
Source: `architecture.md`, section 6.
"""

import json
import sqlite3
from dataclasses import dataclass
from hashlib import sha256

from qkd_core.types.keys import AuditEvent

ORIGIN = "0" * 64  # what stands before the first record of a chain
OPENED = "store_opened"


def canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def event_text(event: AuditEvent) -> str:
    return canonical({"action": event.action, "fields": event.fields})


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the audit. ``event`` is canonical JSON."""

    chain: str
    seq: int
    time: float
    event: str
    prev: str
    hash: str

    @property
    def text(self) -> str:
        """The canonical JSON of everything but the hash; the event is nested as it stands."""
        return (
            f'{{"chain":{canonical(self.chain)},"event":{self.event},'
            f'"prev":"{self.prev}","seq":{self.seq},"time":{canonical(self.time)}}}'
        )

    @property
    def recomputed(self) -> str:
        return sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """The newest record of a chain."""

    seq: int = 0
    hash: str = ORIGIN


@dataclass(slots=True)
class Chain:
    """The chain of this process. ``head`` is put back when a transaction is rolled back."""

    role: str
    number: int
    head: Head = Head()

    @property
    def name(self) -> str:
        return chain_name(self.role, self.number)

    def append(self, connection: sqlite3.Connection, time: float, event: AuditEvent) -> None:
        """Insert the next record, inside the caller's transaction."""
        draft = Record(
            self.name, self.head.seq + 1, time, event_text(event), self.head.hash, ORIGIN
        )
        digest = draft.recomputed
        connection.execute(
            "INSERT INTO audit (chain, seq, time, event, prev, hash) VALUES (?, ?, ?, ?, ?, ?)",
            (draft.chain, draft.seq, draft.time, draft.event, draft.prev, digest),
        )
        self.head = Head(draft.seq, digest)

    def reload(self, connection: sqlite3.Connection) -> None:
        """Take the head from the table: after a failure it is what counts."""
        self.head = head_of(connection, self.name)


def open_chain(connection: sqlite3.Connection, role: str, time: float) -> Chain:
    """Begin the next chain of ``role`` with a record that names the head of the one before."""
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
    }
    chain.append(connection, time, AuditEvent(action=OPENED, fields=fields))
    return chain


def chain_name(role: str, number: int) -> str:
    return f"{role}-{number}"


def head_of(connection: sqlite3.Connection, chain: str) -> Head:
    row = connection.execute(
        "SELECT seq, hash FROM audit WHERE chain = ? ORDER BY seq DESC LIMIT 1", (chain,)
    ).fetchone()
    return Head(*row) if row else Head()
