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
from collections.abc import Callable, Iterator
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


def bundle_lines(connection: sqlite3.Connection) -> Iterator[str]:
    link_id, side, kme_id, log_id = connection.execute(
        "SELECT link_id, side, kme_id, log_id FROM site, audit_log"
    ).fetchone()
    yield canonical(
        {"bundle": VERSION, "link_id": link_id, "side": side, "kme_id": kme_id, "log_id": log_id}
    )
    for kind, (question, _) in ROWS.items():
        for row in connection.execute(question):
            yield canonical({kind: list(row)})
    for row in connection.execute(f"SELECT {COLUMNS} FROM audit ORDER BY chain, seq"):  # noqa: S608
        yield f'{{"record":{Record(*row).line}}}'


def read_bundle(path: Path) -> sqlite3.Connection:
    """The tables of a bundle, in a file that is gone with the connection. Raises ConfigError.

    What is malformed in one line is an error; whether the records are true, `verify` says.
    """
    connection = sqlite3.connect("", isolation_level=None)
    try:
        connection.executescript(SITE_TABLE + AUDIT_TABLES)
        connection.execute("BEGIN")
        with path.open(encoding="utf-8") as lines:
            _read(path, lines, connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _read(path: Path, lines: Iterator[str], connection: sqlite3.Connection) -> None:
    number = 0
    put = _first
    try:
        for line in lines:
            number += 1
            put(connection, line.removesuffix("\n"))
            put = _further
    except (ValueError, TypeError, KeyError, AttributeError, sqlite3.Error) as error:
        raise ConfigError(
            f"{path}, line {number}: cannot be read as part of an audit bundle: {error}"
        ) from error
    if not number:
        raise ConfigError(f"{path} cannot be read: it is empty")


Put = Callable[[sqlite3.Connection, str], None]


def _first(connection: sqlite3.Connection, line: str) -> None:
    head: dict[str, Any] = json.loads(line)
    if head["bundle"] != VERSION:
        raise ValueError(f"version {head['bundle']}, this program reads {VERSION}")
    connection.execute(
        "INSERT INTO site VALUES (?, ?, ?)", (head["link_id"], head["side"], head["kme_id"])
    )
    connection.execute("INSERT INTO audit_log VALUES (1, ?)", (head["log_id"],))


def _further(connection: sqlite3.Connection, line: str) -> None:
    if line.startswith('{"record":'):
        record = read_line(line.removeprefix('{"record":').removesuffix("}"))
        connection.execute(
            f"INSERT INTO audit ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (
                *(record.chain, record.seq, record.time, record.event),
                *(record.prev, record.hash, record.mac),
            ),
        )
        return
    [(kind, row)] = json.loads(line).items()
    connection.execute(ROWS[kind][1], row)
