"""The tree over all records of a store, and how it grows from one checkpoint to the next.

The entry of a record is its hash and its MAC, in bytes. Inner nodes are kept from level 8 on, one
for each 256 records; what is below is computed from the records when it is asked for, so that a
root or a proof costs some hundreds of hashes however many records there are.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from keyferry.audit.chain import chain_name
from keyferry.audit.tree import Frontier, frontier_at, leaf_hash

KEPT_LEVEL = 8


@dataclass(frozen=True, slots=True)
class Span:
    """Records ``first`` to ``last`` of a chain are numbered from ``start`` on, over all chains."""

    start: int
    chain: str
    first: int
    last: int

    @property
    def stop(self) -> int:
        return self.start + self.last - self.first + 1

    def seq(self, index: int) -> int:
        """The number in its chain of the record numbered ``index``."""
        return self.first + index - self.start


def entry_hash(record_hash: str, mac: str) -> bytes:
    """The leaf hash of one record. Raises ValueError unless both are hexadecimal."""
    return leaf_hash(bytes.fromhex(record_hash) + bytes.fromhex(mac))


class LogTree:
    """The nodes of the tree, as the tables have them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def node_at(self, level: int, number: int) -> bytes:
        """The hash of a full node. Raises LookupError when its records are not there."""
        if level >= KEPT_LEVEL:
            row = self._connection.execute(
                "SELECT hash FROM tree WHERE level = ? AND number = ?", (level, number)
            ).fetchone()
            if row is None:
                raise LookupError(f"node {number} of level {level} is not in the tree")
            return bytes(row[0])
        n = 1 << level
        frontier = Frontier()
        for leaf in self.leaves(number * n, (number + 1) * n):
            frontier.add(leaf)
        if frontier.size != n:
            raise LookupError(f"records {number * n} to {(number + 1) * n - 1} are not all there")
        return frontier.root()

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        """The leaf hashes of the records numbered ``start`` up to ``stop``."""
        for span in spans_of(self._connection, start, stop):
            first, last = span.seq(max(start, span.start)), span.seq(min(stop, span.stop) - 1)
            yield from self.leaves_of(span.chain, first, last)

    def leaves_of(self, chain: str, first: int, last: int) -> Iterator[bytes]:
        rows = self._connection.execute(
            "SELECT hash, mac FROM audit WHERE chain = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (chain, first, last),
        )
        for record_hash, mac in rows:
            yield entry_hash(record_hash, mac)

    def index_of(self, chain: str, seq: int) -> int | None:
        """Which record of the whole log it is; None when no checkpoint covers it yet."""
        row = self._connection.execute(
            "SELECT start, first, last FROM spans WHERE chain = ? AND first <= ?"
            " ORDER BY first DESC LIMIT 1",
            (chain, seq),
        ).fetchone()
        return row[0] + seq - row[1] if row is not None and seq <= row[2] else None


@dataclass(frozen=True, slots=True)
class Growth:
    """What the next checkpoint adds: ``spans`` from ``old_size`` on, and new inner nodes."""

    old_size: int
    old_root: bytes
    spans: tuple[Span, ...]
    frontier: Frontier
    nodes: list[tuple[int, int, bytes]] = field(repr=False)


def growth_of(connection: sqlite3.Connection, old_size: int) -> Growth:
    """The tree over all records that are there now; reads only what is new, and the old frontier.

    Raises LookupError when records of the last checkpoint are missing.
    """
    tree = LogTree(connection)
    frontier = frontier_at(tree.node_at, old_size)
    old_root = frontier.root()
    spans, nodes = [], []
    for chain, first, last in uncovered(connection):
        span = Span(frontier.size, chain, first, last)
        for leaf in tree.leaves_of(chain, first, last):
            nodes += [node for node in frontier.append(leaf) if node[0] >= KEPT_LEVEL]
        if frontier.size != span.stop:
            raise LookupError(f"records {first} to {last} of {chain} are not all there")
        spans.append(span)
    return Growth(old_size, old_root, tuple(spans), frontier, nodes)


def keep_growth(connection: sqlite3.Connection, growth: Growth) -> None:
    """Write the order and the nodes, inside the caller's transaction."""
    connection.executemany(
        "INSERT INTO spans VALUES (?, ?, ?, ?)",
        [(span.start, span.chain, span.first, span.last) for span in growth.spans],
    )
    connection.executemany("INSERT INTO tree VALUES (?, ?, ?)", growth.nodes)
    for span in growth.spans:
        role, _, number = span.chain.rpartition("-")
        connection.execute(
            "UPDATE chains SET covered = ? WHERE role = ? AND number = ?", (span.last, role, number)
        )


def uncovered(connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
    """The records that no checkpoint covers: chain, first and last number, by name of chain."""
    return _beyond(connection, "covered")


def unexported(connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
    """The records that the collector does not have."""
    return _beyond(connection, "exported")


def _beyond(connection: sqlite3.Connection, column: str) -> list[tuple[str, int, int]]:
    rows = connection.execute(
        f"SELECT role, number, {column}, (SELECT max(seq) FROM audit"  # noqa: S608  two columns
        " WHERE chain = role || '-' || number) FROM chains ORDER BY role, number"
    )
    return [
        (chain_name(role, number), done + 1, newest)
        for role, number, done, newest in rows
        if newest is not None and newest > done
    ]


def spans_of(connection: sqlite3.Connection, start: int, stop: int) -> list[Span]:
    """The spans with a record numbered from ``start`` up to ``stop``, in order."""
    rows = connection.execute(
        "SELECT start, chain, first, last FROM spans WHERE start < ? AND start >="
        " coalesce((SELECT max(start) FROM spans WHERE start <= ?), 0) ORDER BY start",
        (stop, start),
    )
    return [Span(*row) for row in rows]
