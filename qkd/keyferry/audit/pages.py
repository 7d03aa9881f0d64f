"""A store's log as the lines of a bundle, page by page, up to its newest checkpoint.

Nothing is kept between two pages: what a checkpoint covers keeps its number and never changes, so
a place in the log is enough to go on from, also when the log has grown since.
"""

import sqlite3
from collections.abc import Callable, Iterator

from keyferry.audit.bundle import first_line, record_line
from keyferry.audit.chain import COLUMNS, Record, canonical
from keyferry.audit.log_tree import spans_of
from qkd_core.types.audit import LogPage, LogPlace

PAGE_CHARS = 400_000  # a page ends with the line that exceeds it
RECORDS_AT_ONCE = 1000
BEFORE_ALL = -1

Numbered = Iterator[tuple[int, str]]
"""Lines of one kind in the order of their numbers."""


def page_at(connection: sqlite3.Connection, place: LogPlace | None) -> LogPage:
    """The page at ``place``; None is the first one, which fixes how far the log is shown."""
    lines = []
    if place is None:
        (size,) = connection.execute("SELECT coalesce(max(size), 0) FROM checkpoints").fetchone()
        place = LogPlace(size, 0, BEFORE_ALL)
        lines.append(first_line(connection))
    n_chars = 0
    for part in range(place.part, len(PARTS)):
        after = place.after if part == place.part else BEFORE_ALL
        for number, line in PARTS[part](connection, place.size, after):
            lines.append(line)
            n_chars += len(line)
            if n_chars >= PAGE_CHARS:
                return LogPage(tuple(lines), LogPlace(place.size, part, number))
    return LogPage(tuple(lines), None)


def _rows(kind: str, question: str) -> Callable[[sqlite3.Connection, int, int], Numbered]:
    """Lines of ``kind``: the first column is the number, the rest the members."""

    def numbered(connection: sqlite3.Connection, size: int, after: int) -> Numbered:
        values = {"size": size, "after": after}
        for number, *row in connection.execute(question, values):
            yield number, canonical({kind: row})

    return numbered


def _chains(connection: sqlite3.Connection, size: int, after: int) -> Numbered:
    """Those that have begun: their first record is covered."""
    rows = connection.execute(
        "SELECT start, chain FROM spans WHERE first = 1 AND start > ? AND start < ? ORDER BY start",
        (after, size),
    )
    for start, chain in rows:
        role, _, number = chain.rpartition("-")
        yield start, canonical({"chain": [role, int(number)]})


def _records(connection: sqlite3.Connection, size: int, after: int) -> Numbered:
    """By their number in the whole log."""
    for start in range(after + 1, size, RECORDS_AT_ONCE):
        stop = min(size, start + RECORDS_AT_ONCE)
        for span in spans_of(connection, start, stop):
            first, last = span.seq(max(start, span.start)), span.seq(min(stop, span.stop) - 1)
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM audit WHERE chain = ? AND seq BETWEEN ? AND ?"  # noqa: S608
                " ORDER BY seq",
                (span.chain, first, last),
            )
            for row in rows:
                record = Record(*row)
                yield span.start + record.seq - span.first, record_line(record)


PARTS = (  # `LogPlace.part` counts them
    _rows(
        "signing_key",
        "SELECT number, number, public_key, endorsement FROM signing_keys"
        " WHERE number > :after ORDER BY number",
    ),
    _rows(
        "peer_key",
        "SELECT position, position, number, public_key, endorsement FROM peer_keys"
        " WHERE position > :after ORDER BY position",
    ),
    _rows(
        "peer_head",
        "SELECT position, position, origin, size, note FROM peer_heads"
        " WHERE position > :after ORDER BY position",
    ),
    _rows(
        "checkpoint",
        "SELECT size, size, note, countersignature FROM checkpoints"
        " WHERE size > :after AND size <= :size ORDER BY size",
    ),
    _rows(
        "span",
        "SELECT start, start, chain, first, last FROM spans"
        " WHERE start > :after AND start < :size ORDER BY start",
    ),
    _chains,
    _records,
)
