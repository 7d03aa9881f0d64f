"""Following each chain from record to record, and from chain to chain."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hmac import compare_digest
from itertools import groupby
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from keyferry.audit.against_tables import Deeds
from keyferry.audit.auditor import mac_of, next_key, opened_by
from keyferry.audit.chain import MAC_KEY, OPENED, ORIGIN, Record, chain_name
from keyferry.audit.findings import Finding
from keyferry.audit.signing import KEY_RECORD
from qkd_core.errors import NotProved
from qkd_core.types.audit import SigningKey


@dataclass(slots=True)
class Seen:
    """What the records of all chains say, gathered on the way.

    macs   chains of which every MAC was checked and was right
    bare   chains that begin without MACs
    keys   the site's signing keys, each with the record that names it
    """

    deeds: Deeds = field(default_factory=Deeds)
    macs: set[str] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)
    keys: list[tuple[str, int, SigningKey]] = field(default_factory=list)


class Walk:
    """Follows one chain. With the auditor's key it checks the MACs as well."""

    def __init__(self, chain: str, seen: Seen, auditor: X25519PrivateKey | None = None) -> None:
        self.chain = chain
        self.n_records = 0
        self.last_seq = 0
        self.first: Record | None = None
        self._seen, self._auditor = seen, auditor
        self._before: Record | None = None
        self._mac_key = b""
        self._has_macs = False

    def through(self, chain: Iterable[Record]) -> Iterator[Finding]:
        found = 0
        for record in chain:
            self.n_records += 1
            for finding in self._step(record):
                found += 1
                yield finding
            self.first = self.first or record
            self._before = record
            self.last_seq = record.seq
        if self._has_macs and self._mac_key and not found:
            self._seen.macs.add(self.chain)
        if not self._has_macs:
            self._seen.bare.add(self.chain)

    def _step(self, record: Record) -> Iterator[Finding]:
        due = 1 if self._before is None else self._before.seq + 1
        if record.seq != due:
            rest = "" if record.seq == due + 1 else f", and all up to {record.seq - 1}"
            yield Finding(self.chain, due, f"was removed{rest}")
        elif self._before is None and record.prev != ORIGIN:
            yield Finding(self.chain, record.seq, "is not the beginning of a chain")
        elif self._before is not None and record.prev != self._before.hash:
            what = f"is not the record that record {record.seq} follows"
            yield Finding(self.chain, self._before.seq, what)
        try:
            sound = record.recomputed == record.hash
            event = json.loads(record.event)
            self._seen.deeds.note(event)
            self._note(record, event)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            yield Finding(self.chain, record.seq, f"is malformed: {type(error).__name__}: {error}")
            return
        except NotProved as error:
            yield Finding(self.chain, record.seq, f"{error}: its MACs cannot be checked")
        if not sound:
            yield Finding(self.chain, record.seq, "was changed: its hash does not recompute")
        yield from self._mac(record)

    def _note(self, record: Record, event: dict[str, Any]) -> None:
        fields = event["fields"]
        if event["action"] == KEY_RECORD:
            key = SigningKey(fields["number"], fields["public_key"], fields["endorsement"])
            if not isinstance(key.number, int) or not isinstance(key.public_key, str):
                raise TypeError("no signing key")
            self._seen.keys.append((record.chain, record.seq, key))
        if event["action"] == OPENED and self._before is None and MAC_KEY in fields:
            self._has_macs = True
            if self._auditor is not None:
                self._mac_key = opened_by(self._auditor, fields[MAC_KEY], self.chain)

    def _mac(self, record: Record) -> Iterator[Finding]:
        """A record whose MAC is wrong was not written by the process that opened the chain."""
        if not self._mac_key:
            return
        if self._before is not None:
            for _ in range(max(1, record.seq - self._before.seq)):
                self._mac_key = next_key(self._mac_key)
        try:
            right = compare_digest(record.mac, mac_of(self._mac_key, record.text))
        except (TypeError, ValueError):
            right = False
        if not right:
            what = "its MAC is wrong: the process that opened the chain did not write it so"
            yield Finding(self.chain, record.seq, what)


class Links:
    """Which chains there must be, and what each one's first record says of the one before."""

    def __init__(self, connection: sqlite3.Connection, first: dict[str, Record]) -> None:
        self._connection = connection
        self._first = first
        self.named: dict[str, int] = {}

    def findings(self) -> Iterator[Finding]:
        rows = self._connection.execute("SELECT role, number FROM chains ORDER BY role, number")
        expected = {}
        for role, newest in _newest_of_each(rows):
            expected.update({chain_name(role, n): (role, n) for n in range(1, newest + 1)})
        for chain in self._first.keys() - expected.keys():
            yield Finding(chain, 0, "no process of this store opened such a chain")
        for chain, (role, number) in expected.items():
            if chain not in self._first:
                yield Finding(chain, 0, "the whole chain was removed")
            else:
                yield from self._link(self._first[chain], role, number)

    def _link(self, first: Record, role: str, number: int) -> Iterator[Finding]:
        fields = _fields_of_opening(first)
        before = chain_name(role, number - 1) if number > 1 else ""
        if fields.get("previous_chain") != before:
            yield Finding(first.chain, first.seq, f"is no opening that names {before or 'nothing'}")
            return
        if not before:
            return
        seq = fields.get("previous_seq")
        row = self._connection.execute(
            "SELECT hash FROM audit WHERE chain = ? AND seq = ?", (before, seq)
        ).fetchone()
        if row is None or row[0] != fields.get("previous_hash"):
            what = f"is not the record that {first.chain} names as its head"
            yield Finding(before, seq if isinstance(seq, int) else 0, what)
        elif isinstance(seq, int):
            self.named[before] = seq


def _newest_of_each(rows: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    for role, group in groupby(rows, key=lambda row: row[0]):
        yield role, max(number for _, number in group)


def _fields_of_opening(record: Record) -> dict[str, Any]:
    """Empty unless the record is a sound opening."""
    try:
        event = json.loads(record.event)
        return dict(event["fields"]) if event["action"] == OPENED else {}
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
