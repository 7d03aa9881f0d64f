"""What the ports of one site share: the writer thread, a reading connection, and whose they are."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from keyferry.store.connection import connect
from keyferry.store.gate import Gate, NoWitness
from keyferry.store.schema import SiteRow
from keyferry.store.sealing import Seal
from keyferry.store.transaction import Transaction
from keyferry.store.writer import Writer
from qkd_core.errors import AuditUnavailable

T = TypeVar("T")
Item = TypeVar("Item")


class Reader:
    """A connection of its own for reading, shared by the threads of this process in turn."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path, read_only=True)
        self._lock = threading.Lock()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Reads inside see one committed state. Raises AuditUnavailable when reading fails."""
        with self._lock:
            try:
                self._connection.execute("BEGIN")
                try:
                    yield self._connection
                finally:
                    self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise AuditUnavailable(f"the store {self._path} cannot be read: {error}") from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()


@dataclass(frozen=True, slots=True)
class Database:
    """The open store of one site in this process."""

    site: SiteRow
    seal: Seal
    writer: Writer
    reader: Reader
    gate: Gate = field(default_factory=NoWitness)

    @property
    def witnessed(self) -> bool:
        """Whether this site acts only as far as its peer has acknowledged beforehand."""
        return self.writer.witnessed

    @property
    def path(self) -> Path:
        return self.writer.path

    def write(self, transition: Callable[[Transaction], T]) -> T:
        """Commit one transition, records included. Raises what it raises, or AuditUnavailable."""
        return self.writer.run(transition)

    def write_together(
        self, together: Callable[[Transaction, Sequence[Item]], Sequence[T]], item: Item
    ) -> T:
        """As `write`, for a transition that is cheaper in company: see `Writer.run_together`."""
        return self.writer.run_together(together, item)

    def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        with self.reader.snapshot() as connection:
            return question(connection)

    def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        return self.read(lambda connection: connection.execute(sql, values).fetchall())

    def close(self) -> None:
        self.writer.close()
        self.reader.close()
