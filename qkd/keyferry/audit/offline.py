"""Reading a store's file without changing anything, whether or not its processes run."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from keyferry.audit.chain import Record
from qkd_core.errors import ConfigError


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection that sees one committed state.

    Raises ConfigError when there is no store at ``path``, or it cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"there is no store at {path}")
    wal = path.with_name(path.name + "-wal")
    # Without a write-ahead log nothing else has the file open, and SQLite need not make one.
    mode = "mode=ro" if wal.exists() else "immutable=1"
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
        ) as connection:
            connection.text_factory = as_written
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise ConfigError(f"the store {path} cannot be read: {error}") from error


def as_written(data: bytes) -> str:
    """Text as it stands, also when it is no UTF-8: a damaged record is for `verify` to name."""
    return data.decode("utf-8", "surrogateescape")


def records(connection: sqlite3.Connection) -> Iterator[Record]:
    """All records, chain by chain, in order."""
    for row in connection.execute(
        "SELECT chain, seq, time, event, prev, hash FROM audit ORDER BY chain, seq"
    ):
        yield Record(*row)
