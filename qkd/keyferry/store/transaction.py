"""What one transition works with: the connection, the audit chain and the seal.

Whatever a transition writes, its records included, is committed together or not at all.
"""

import sqlite3
from dataclasses import dataclass

from keyferry.audit.chain import Chain
from keyferry.store.sealing import Seal
from qkd_core.types.keys import AuditEvent


@dataclass(frozen=True, slots=True)
class Transaction:
    """``now``: when it began, in seconds since 1970. ``epoch_s``: how long a data key serves."""

    connection: sqlite3.Connection
    chain: Chain
    seal: Seal
    now: float
    epoch_s: float

    def write(self, sql: str, *values: object) -> int:
        """Run one statement; returns how many rows it changed."""
        return self.connection.execute(sql, values).rowcount

    def audit(self, action: str, **fields: str | int | float | list[str]) -> None:
        self.chain.append(self.connection, self.now, AuditEvent(action=action, fields=fields))

    def count(self, name: str, by: float = 1) -> None:
        """Add to a running figure of this site."""
        self.write(
            "INSERT INTO tally (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            name,
            by,
        )

    def note(self, name: str, value: str) -> None:
        """Replace a running text of this site."""
        self.write(
            "INSERT INTO tally (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name,
            value,
        )

    def close(self, secret: bytes, *place: str | int) -> tuple[int, bytes]:
        """Seal ``secret`` in the current epoch; returns that epoch and the sealed bytes."""
        epoch = self._epoch()
        return epoch, self.seal.close(self.connection, epoch, secret, *place)

    def open(self, epoch: int, sealed: bytes, *place: str | int) -> bytes:
        """Raises StoreDamaged."""
        return self.seal.open(self.connection, epoch, sealed, *place)

    def _epoch(self) -> int:
        """The newest epoch, or a new one when it is too old."""
        row = self.connection.execute(
            "SELECT epoch, created_at FROM epochs WHERE wrapped IS NOT NULL"
            " ORDER BY epoch DESC LIMIT 1"
        ).fetchone()
        if row is not None and self.now - row[1] < self.epoch_s:
            return int(row[0])
        self.write("INSERT INTO epochs (created_at) VALUES (?)", self.now)
        epoch = int(self.connection.execute("SELECT last_insert_rowid()").fetchone()[0])
        self.write(
            "UPDATE epochs SET wrapped = ? WHERE epoch = ?", self.seal.new_wrapped(epoch), epoch
        )
        self.audit("epoch_created", epoch=epoch)
        return epoch
