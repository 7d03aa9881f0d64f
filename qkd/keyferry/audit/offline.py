"""Reading a store's file, or a bundle, without changing anything, running or not."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from keyferry.audit.bundle import read_bundle
from keyferry.audit.chain import COLUMNS, Record
from keyferry.config.site import STORE_FILE
from qkd_core.errors import ConfigError

SQLITE_MAGIC = b"SQLite format 3\x00"
BUNDLE_SUFFIX = ".bundle"


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection that sees one committed state.

    Raises ConfigError when there is no store and no bundle at ``path``, or it cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"there is no store at {path}")
    try:
        with path.open("rb") as file:
            is_store = file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
        with closing(_store(path) if is_store else read_bundle(path)) as connection:
            connection.text_factory = as_written
            connection.execute("BEGIN")
            yield connection
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"the store {path} cannot be read: {error}") from error


def _store(path: Path) -> sqlite3.Connection:
    wal = path.with_name(path.name + "-wal")
    # Without a write-ahead log nothing else has the file open, and SQLite need not make one.
    mode = "mode=ro" if wal.exists() else "immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)


def as_written(data: bytes) -> str:
    """Text as it stands, also when it is no UTF-8: a damaged record is for `verify` to name."""
    return data.decode("utf-8", "surrogateescape")


def stores_below(place: Path) -> list[Path]:
    """A store or bundle itself, or all of them below a folder. Raises ConfigError for none."""
    if place.is_file():
        return [place]
    found = sorted([*place.rglob(STORE_FILE), *place.rglob(f"*{BUNDLE_SUFFIX}")])
    if not found:
        raise ConfigError(f"{place}: holds no {STORE_FILE} and no {BUNDLE_SUFFIX} file")
    return found


def store_at(place: Path) -> Path:
    """The one store or bundle at ``place``. Raises ConfigError for none or several."""
    found = stores_below(place)
    if len(found) > 1:
        names = ", ".join(str(each) for each in found)
        raise ConfigError(f"{place}: holds {len(found)} stores, name one of them: {names}")
    return found[0]


def kme_of(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT kme_id FROM site").fetchone()[0])


def has_tables_of_keys(connection: sqlite3.Connection) -> bool:
    """A store has them, a bundle has not."""
    row = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'keys'"
    ).fetchone()
    return bool(row[0])


def records(connection: sqlite3.Connection) -> Iterator[Record]:
    """All records, chain by chain, in order."""
    for row in connection.execute(f"SELECT {COLUMNS} FROM audit ORDER BY chain, seq"):  # noqa: S608
        yield Record(*row)


def records_by_time(connection: sqlite3.Connection) -> Iterator[Record]:
    for row in connection.execute(
        f"SELECT {COLUMNS} FROM audit ORDER BY time, chain, seq"  # noqa: S608  fixed columns
    ):
        yield Record(*row)
