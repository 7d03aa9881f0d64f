"""An audit log in one file, to be verified and read anywhere: one JSON object a line.

    {"bundle": 1, "kme_id": "kme-a", "link_id": "fibre-ab", "log_id": "5c1a...", "side": "a"}
    {"record": {...}}               as exported, with hash and MAC
    {"span": [0, "api-1", 1, 12]}   the order of the records in the tree
    {"checkpoint": [24, "kme-a/fibre-ab/...", "- kme-b ..."]}

The other lines are rows of chains, of the signing keys of both sites, and of the heads that this
site countersigned. Reading one makes the tables of a store's audit again, in a private file.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from keyferry.audit.chain import COLUMNS, Record, canonical, read_line
from keyferry.audit.tables import AUDIT_TABLES
from qkd_core.errors import ConfigError

VERSION = 1
SITE_TABLE = "CREATE TABLE site (link_id TEXT, side TEXT, kme_id TEXT);"
ROWS = {  # each kind of line: the rows behind it, and how they are put in again
    "chain": (
        "SELECT role, number FROM chains ORDER BY role, number",
        "INSERT INTO chains (role, number) VALUES (?, ?)",
    ),
    "span": (
        "SELECT start, chain, first, last FROM spans ORDER BY start",
        "INSERT INTO spans VALUES (?, ?, ?, ?)",
    ),
    "checkpoint": (
        "SELECT size, note, countersignature FROM checkpoints ORDER BY size",
        "INSERT INTO checkpoints VALUES (?, ?, ?)",
    ),
    "signing_key": (
        "SELECT number, public_key, endorsement FROM signing_keys ORDER BY number",
        "INSERT INTO signing_keys VALUES (?, ?, ?)",
    ),
    "peer_key": (
        "SELECT position, number, public_key, endorsement FROM peer_keys ORDER BY position",
        "INSERT INTO peer_keys VALUES (?, ?, ?, ?)",
    ),
    "peer_head": (
        "SELECT position, origin, size, note FROM peer_heads ORDER BY position",
        "INSERT INTO peer_heads (position, origin, size, note) VALUES (?, ?, ?, ?)",
    ),
}


KINDS: dict[str, tuple[type, ...]] = {  # what the members of each line are
    "chain": (str, int),
    "span": (int, str, int, int),
    "checkpoint": (int, str, str),
    "signing_key": (int, str, str),
    "peer_key": (int, int, str, str),
    "peer_head": (int, str, int, str),
}
MALFORMED = (
    *(ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError),
    sqlite3.Error,
)
RECORD_KINDS = (str, int, float, str, str, str, str)


def bundle_lines(connection: sqlite3.Connection) -> Iterator[str]:
    yield first_line(connection)
    for kind, (question, _) in ROWS.items():
        for row in connection.execute(question):
            yield canonical({kind: list(row)})
    for row in connection.execute(f"SELECT {COLUMNS} FROM audit ORDER BY chain, seq"):  # noqa: S608
        yield record_line(Record(*row))


def first_line(connection: sqlite3.Connection) -> str:
    """Whose log it is."""
    link_id, side, kme_id, log_id = connection.execute(
        "SELECT link_id, side, kme_id, log_id FROM site, audit_log"
    ).fetchone()
    return canonical(
        {"bundle": VERSION, "link_id": link_id, "side": side, "kme_id": kme_id, "log_id": log_id}
    )


def record_line(record: Record) -> str:
    return f'{{"record":{record.line}}}'


def read_bundle(path: Path) -> sqlite3.Connection:
    """The tables of a bundle, in a file that is gone with the connection. Raises ConfigError.

    What is malformed in one line is an error; whether the records are true, `verify` says.
    """
    connection = sqlite3.connect("", isolation_level=None)
    try:
        with path.open(encoding="utf-8") as lines:
            _read(str(path), lines, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def unpack(lines: Iterable[str], file: Path, what: str) -> None:
    """Make the tables of a bundle in a new file, to be `opened` as a store is.

    ``what`` says where the lines come from. Raises ConfigError, and what ``lines`` raises.
    """
    file.touch(mode=0o600, exist_ok=False)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        _read(what, lines, connection)


def _read(what: str, lines: Iterable[str], connection: sqlite3.Connection) -> None:
    number = 0
    put = _first
    try:
        connection.executescript(SITE_TABLE + AUDIT_TABLES)
        connection.execute("BEGIN")
        for line in lines:
            number += 1
            put(connection, line.removesuffix("\n"))
            put = _further
        connection.execute("COMMIT")
    except MALFORMED as error:
        raise ConfigError(
            f"{what}, line {number}: cannot be read as part of an audit bundle: {error}"
        ) from error
    if not number:
        raise ConfigError(f"{what} cannot be read: it is empty")


Put = Callable[[sqlite3.Connection, str], None]


def _first(connection: sqlite3.Connection, line: str) -> None:
    head: dict[str, Any] = json.loads(line)
    if head["bundle"] != VERSION:
        raise ValueError(f"version {head['bundle']}, this program reads {VERSION}")
    names = [head[name] for name in ("link_id", "side", "kme_id", "log_id")]
    _check_kinds(names, (str, str, str, str))
    *site, log_id = names
    connection.execute("INSERT INTO site VALUES (?, ?, ?)", site)
    connection.execute("INSERT INTO audit_log VALUES (1, ?)", (log_id,))


def _further(connection: sqlite3.Connection, line: str) -> None:
    if line.startswith('{"record":'):
        record = read_line(line.removeprefix('{"record":').removesuffix("}"))
        row = (
            *(record.chain, record.seq, record.time, record.event),
            *(record.prev, record.hash, record.mac),
        )
        _check_kinds(row, RECORD_KINDS)
        connection.execute(
            f"INSERT INTO audit ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            row,
        )
        return
    [(kind, row)] = json.loads(line).items()
    given = [*row[:2], row[2] or ""] if kind == "checkpoint" else row
    _check_kinds(given, KINDS[kind])
    connection.execute(ROWS[kind][1], row)


def _check_kinds(row: Sequence[object], kinds: tuple[type, ...]) -> None:
    """Raises TypeError: a line may come from a site that lies."""
    if tuple(map(type, row)) != kinds:
        raise TypeError("its members are not of the right kinds")
