"""What one transition works with: the connection, the audit chain and the seal.

Whatever a transition writes, its records included, is committed together or not at all.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from keyferry.audit.chain import AUDIT_ROW, Chain, Head
from keyferry.store.inserting import insert
from keyferry.store.sealing import Seal
from qkd_core.types.keys import AuditEvent


@dataclass(slots=True)
class Unwritten:
    """What a transition has said and found out so far, until it ends."""

    records: list[tuple[object, ...]] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=dict)
    epoch: int | None = None
    data_keys: dict[int, AESGCMSIV] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transaction:
    """``now``: when it began, in seconds since 1970. ``epoch_s``: how long a data key serves.

    ``witnessed``: the site acts only as far as its peer has acknowledged beforehand.
    Records and counts are written when the transition ends, all at once: see `write_up`.
    """

    connection: sqlite3.Connection
    chain: Chain
    seal: Seal
    now: float
    epoch_s: float
    witnessed: bool = False
    _unwritten: Unwritten = field(default_factory=Unwritten, repr=False)

    def write(self, sql: str, *values: object) -> int:
        """Run one statement; returns how many rows it changed."""
        return self.connection.execute(sql, values).rowcount

    def insert(self, columns: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert ``rows`` into ``columns``, which is our own text, with few statements."""
        insert(self.connection, columns, rows)

    def audit(self, action: str, **fields: str | int | float | list[str]) -> None:
        event = AuditEvent(action=action, fields=fields)
        self._unwritten.records.append(self.chain.next_row(self.now, event))

    def count(self, name: str, by: float = 1) -> None:
        """Add to a running figure of this site."""
        self._unwritten.counts[name] = self._unwritten.counts.get(name, 0) + by

    def write_up(self) -> None:
        """The transition is at its end: write its records and counts, remember nothing of it."""
        self.insert(AUDIT_ROW, self._unwritten.records)
        for name, by in self._unwritten.counts.items():
            self.write(
                "INSERT INTO tally (name, value) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                *(name, by),
            )
        self._start_afresh()

    def forget(self, head: Head) -> None:
        """The transition is rolled back to where the chain ended with ``head``."""
        self.chain.head = head
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._unwritten.records.clear()
        self._unwritten.counts.clear()
        self._unwritten.epoch = None
        self._unwritten.data_keys.clear()

    def note(self, name: str, value: str | int) -> None:
        """Replace a running text or mark of this site."""
        self.write(
            "INSERT INTO tally (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name,
            value,
        )

    def alarm(self, kind: str) -> None:
        """Count something that an operator must know of; its record goes with `audit`."""
        self.count(f"alarm {kind}")

    def close(self, secret: bytes, *place: str | int) -> tuple[int, bytes]:
        """Seal ``secret`` in the current epoch; returns that epoch and the sealed bytes."""
        epoch = self._current_epoch()
        return epoch, self.seal.close_with(self._data_key(epoch), epoch, secret, *place)

    def close_numbered(
        self, secrets: Sequence[bytes], *place: str | int
    ) -> tuple[int, list[bytes]]:
        """As `close` for many at once, whose places end with 0, 1, 2 and so on."""
        epoch = self._current_epoch()
        return epoch, self.seal.close_numbered(self._data_key(epoch), epoch, secrets, *place)

    def open(self, epoch: int, sealed: bytes, *place: str | int) -> bytes:
        """Raises StoreDamaged."""
        return self.seal.open_with(self._data_key(epoch), epoch, sealed, *place)

    def _data_key(self, epoch: int) -> AESGCMSIV:
        """Looked up once in a transition: nobody else can destroy it meanwhile."""
        known = self._unwritten.data_keys.get(epoch)
        if known is None:
            known = self.seal.data_key(self.connection, epoch)
            self._unwritten.data_keys[epoch] = known
        return known

    def _current_epoch(self) -> int:
        if self._unwritten.epoch is None:
            self._unwritten.epoch = self._epoch()
        return self._unwritten.epoch

    def _epoch(self) -> int:
        """The newest epoch, or a new one when it is too old."""
        row = self.connection.execute(
            "SELECT epoch, created_at FROM epochs WHERE wrapped IS NOT NULL"
            " ORDER BY epoch DESC LIMIT 1"
        ).fetchone()
        if row is not None and abs(self.now - row[1]) < self.epoch_s:
            return int(row[0])
        self.write("INSERT INTO epochs (created_at) VALUES (?)", self.now)
        epoch = int(self.connection.execute("SELECT last_insert_rowid()").fetchone()[0])
        self.write(
            "UPDATE epochs SET wrapped = ? WHERE epoch = ?", self.seal.new_wrapped(epoch), epoch
        )
        self.audit("epoch_created", epoch=epoch)
        return epoch
