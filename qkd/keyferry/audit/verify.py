"""`verify`: does the audit of a store still say what was written into it?

Every chain is recomputed from its first record; chains of one role are followed from each to the
one before. What this cannot show stands in `NOT_COVERED`.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from keyferry.audit.chain import OPENED, ORIGIN, Record, chain_name
from keyferry.audit.completeness import Deeds, missing_records
from keyferry.audit.offline import opened, records

NOT_COVERED = (
    "Not covered: records cut from the end of a chain after the record that the next chain of its"
    " role names, newest chains removed whole where no key or block of the store needs their"
    " records, and an audit recomputed from some record on."
    " These need signed checkpoints, which this version does not write."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One record that is not as it was written, or is not there; ``seq`` 0 is the chain itself."""

    chain: str
    seq: int
    what: str

    def __str__(self) -> str:
        return f"{self.chain} record {self.seq}: {self.what}"


@dataclass(frozen=True, slots=True)
class Report:
    """``chains``: records found in each. ``open_end``: those of them that no later chain names."""

    chains: dict[str, int]
    open_end: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings

    def lines(self) -> Iterator[str]:
        """For a terminal: chains, findings, and what was not covered."""
        for chain, n_records in self.chains.items():
            yield f"{chain}: {n_records} records, {self.open_end[chain]} after the last named one"
        yield from map(str, self.findings)
        yield "no finding" if self.ok else f"{len(self.findings)} findings"
        yield NOT_COVERED


def verify(path: Path) -> Report:
    """Recompute the audit of the store at ``path``; offline and read-only. Raises ConfigError."""
    findings: list[Finding] = []
    chains: dict[str, int] = {}
    first: dict[str, Record] = {}
    deeds = Deeds()
    with opened(path) as connection:
        for chain, group in groupby(records(connection), key=lambda record: record.chain):
            walk = Walk(chain, deeds)
            findings += walk.through(group)
            chains[chain] = walk.n_records
            if walk.first is not None:
                first[chain] = walk.first
        links = Links(connection, first)
        findings += links.findings()
        findings += [Finding("tables", 0, what) for what in missing_records(connection, deeds)]
    open_end = {chain: n - links.named.get(chain, 0) for chain, n in chains.items()}
    return Report(chains, open_end, tuple(findings))


class Walk:
    """Follows one chain from record to record."""

    def __init__(self, chain: str, deeds: Deeds) -> None:
        self.chain = chain
        self.n_records = 0
        self.first: Record | None = None
        self._deeds = deeds
        self._before: Record | None = None

    def through(self, chain: Iterable[Record]) -> Iterator[Finding]:
        for record in chain:
            self.n_records += 1
            yield from self._step(record)
            self.first = self.first or record
            self._before = record

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
            self._deeds.note(json.loads(record.event))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            yield Finding(self.chain, record.seq, f"is malformed: {type(error).__name__}: {error}")
            return
        if not sound:
            yield Finding(self.chain, record.seq, "was changed: its hash does not recompute")


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
