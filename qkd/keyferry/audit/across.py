"""Two sites' logs side by side: does each still have what the other one countersigned?"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keyferry.audit.coverage import CHECKPOINTS
from keyferry.audit.findings import Finding
from keyferry.audit.notes import check_note, public_key, read_note
from keyferry.audit.offline import kme_of, opened
from keyferry.audit.signing import known_peer_keys, own_keys
from qkd_core.errors import NotProved


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint of the other site's log that a site countersigned."""

    origin: str
    size: int
    note: str


def heads_of(connection: sqlite3.Connection) -> list[Head]:
    """What the site of this store or bundle countersigned for the other one."""
    rows = connection.execute("SELECT origin, size, note FROM peer_heads ORDER BY position")
    return [Head(*row) for row in rows]


def against_peer(path: Path, peer: Path) -> list[Finding] | None:
    """What the store at ``path`` lacks of that for which the other site's store stands.

    None when the two are not the ends of one link. Raises ConfigError.
    """
    with opened(path) as own, opened(peer) as other:
        if not _are_ends_of_one_link(own, other):
            return None
        return [*_keys(own, other), *lost_heads(own, kme_of(other), heads_of(other))]


def _are_ends_of_one_link(own: sqlite3.Connection, other: sqlite3.Connection) -> bool:
    (link, side), (peer_link, peer_side) = (
        connection.execute("SELECT link_id, side FROM site").fetchone()
        for connection in (own, other)
    )
    return bool(link == peer_link and side != peer_side)


def _keys(own: sqlite3.Connection, other: sqlite3.Connection) -> Iterator[Finding]:
    """The other site knows this one by its signing keys, and the other way round."""
    mine, theirs = kme_of(own), kme_of(other)
    for holder, pinned, keys in (
        (theirs, known_peer_keys(other), own_keys(own)),
        (mine, known_peer_keys(own), own_keys(other)),
    ):
        of = mine if holder == theirs else theirs
        known = {key.public_key for key in keys}
        for key in pinned:
            if key.public_key not in known:
                what = f"{holder} knows {of} by key {key.number}, which is none of its own"
                yield Finding("signing keys", key.number, what)


def lost_heads(own: sqlite3.Connection, theirs: str, heads: Iterable[Head]) -> Iterator[Finding]:
    """Every head that the other site signed for this one is a head of this log."""
    mine = kme_of(own)
    for head in heads:
        size, note = head.size, head.note
        row = own.execute("SELECT note FROM checkpoints WHERE size = ?", (size,)).fetchone()
        try:
            if row is None:
                raise NotProved(f"{theirs} countersigned {size} records of {mine}, which are gone")
            if read_note(row[0]).root != read_note(note).root:
                raise NotProved(f"{theirs} countersigned other records of {mine}")
            if not any(_signs(key.public_key, note) for key in own_keys(own)):
                raise NotProved(f"{theirs} countersigned what no key of {mine} signed")
        except NotProved as error:
            yield Finding(CHECKPOINTS, size, str(error))


def _signs(key: str, note: str) -> bool:
    try:
        check_note(note, public_key(key))
    except NotProved:
        return False
    return True
