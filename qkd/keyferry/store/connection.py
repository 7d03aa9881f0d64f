"""Connections to one SQLite file, each with the settings that our promises rest on."""

import os
import sqlite3
import stat
import time
from pathlib import Path

from qkd_core.errors import AuditUnavailable, ConfigError

BUSY_TIMEOUT_MS = 10_000
CACHE_KIB = 32_768
OPENING_PAUSE_S = 0.02

# synchronous 2 is FULL: an acknowledged commit survives a loss of power.
REQUIRED: dict[str, str | int] = {
    "busy_timeout": BUSY_TIMEOUT_MS,  # first: the next one may have to wait
    "journal_mode": "wal",
    "synchronous": 2,
    "secure_delete": 1,
    "foreign_keys": 1,
}


def prepare_file(path: Path) -> None:
    """Make the directory (0700) and the file (0600) when they are missing; check them otherwise.

    SQLite gives its ``-wal`` and ``-shm`` files the mode of the file. Raises ConfigError when
    others may read, AuditUnavailable when nothing can be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        for place in (path.parent, path):
            check_private(place)
    except OSError as error:
        raise AuditUnavailable(f"the store {path} cannot be made: {error.strerror}") from error


def check_private(place: Path) -> None:
    """Raises ConfigError when group or others have any right on ``place``."""
    mode = stat.S_IMODE(place.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(f"{place} has mode {mode:04o}: nobody but its owner may have access")


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection without implicit transactions, usable from any thread, by one at a time.

    Raises AuditUnavailable when the file is not there or does not open, ConfigError when a setting
    does not hold.
    """
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",  # never a file that `prepare_file` did not make
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        for name, value in REQUIRED.items():
            _set(connection, name, value)
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        check_pragmas(connection)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error as error:
        raise AuditUnavailable(f"the store {path} does not open: {error}") from error
    return connection


def _set(connection: sqlite3.Connection, name: str, value: str | int) -> None:
    """Set one pragma, and wait for other processes while they open the same empty file.

    SQLite's own waiting does not cover the change of a new file to write-ahead logging.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute(f"PRAGMA {name} = {value}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(OPENING_PAUSE_S)
        else:
            return


def check_pragmas(connection: sqlite3.Connection) -> None:
    """Raises ConfigError unless every required setting holds."""
    for name, value in REQUIRED.items():
        found = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if found != value:
            raise ConfigError(f"SQLite runs with {name} = {found}, this store needs {value}")
