"""The rollback witness as rows: this site's own state and marks, and what it knows of the peer."""

import sqlite3
from collections.abc import Mapping

from keyferry.store.transaction import Transaction
from qkd_core.errors import PeerUnavailable, RolledBack
from qkd_core.keys.witness import merged
from qkd_core.types.witness import ChainHead, Marks, Remembered, SiteState


def own_marks(connection: sqlite3.Connection) -> Marks:
    incarnation, era, state, closing = connection.execute(
        "SELECT incarnation, era, state, closing FROM witness"
    ).fetchone()
    return Marks(
        incarnation=incarnation,
        era=era,
        heads=newest_heads(connection),
        state=SiteState(state),
        closing=bool(closing),
    )


def newest_heads(connection: sqlite3.Connection) -> dict[str, ChainHead]:
    """The last record of the newest chain of each role."""
    heads = {}
    for role, number in connection.execute("SELECT role, max(number) FROM chains GROUP BY role"):
        row = connection.execute(
            "SELECT seq, hash FROM audit WHERE chain = ? ORDER BY seq DESC LIMIT 1",
            (f"{role}-{number}",),
        ).fetchone()
        heads[role] = ChainHead(number, *row)
    return heads


def is_recorded(connection: sqlite3.Connection, role: str, head: ChainHead) -> bool:
    row = connection.execute(
        "SELECT hash FROM audit WHERE chain = ? AND seq = ?", (f"{role}-{head.number}", head.seq)
    ).fetchone()
    return row is not None and row[0] == head.hash


def require_open(connection: sqlite3.Connection) -> None:
    """Raises RolledBack, PeerUnavailable unless this site may act at all."""
    state, reason = connection.execute("SELECT state, reason FROM witness").fetchone()
    if state == SiteState.ROLLED_BACK:
        raise RolledBack(f"this site is rolled back: {reason}")
    if state != SiteState.OPEN:
        raise PeerUnavailable(f"this site is {state}: it waits for the peer's KME")


def remembered(connection: sqlite3.Connection) -> Remembered:
    """What this site knows of its peer."""
    incarnation, refused, era, state, closing = connection.execute(
        "SELECT incarnation, refused, era, state, closing FROM witness_peer"
    ).fetchone()
    return Remembered(
        incarnation=incarnation,
        refused=refused,
        era=era,
        heads=_heads(connection),
        state=SiteState(state),
        closing=bool(closing),
    )


def remember(tx: Transaction, marks: Marks) -> None:
    """Keep the newest of what the peer told.

    A message that was late does not open a site that has closed since: only `let_open` does.
    """
    tx.write(
        "UPDATE witness_peer SET incarnation = ?1, closing = max(closing, ?3),"
        " state = iif(state = 'closed', state, ?2)",
        *(marks.incarnation, marks.state.value, int(marks.closing)),
    )
    known = _heads(tx.connection)
    for role, head in merged(known, marks.heads).items():
        if known.get(role) != head:
            tx.write(
                "INSERT OR REPLACE INTO witness_heads VALUES (?, ?, ?, ?)",
                *(role, head.number, head.seq, head.hash),
            )


def is_news(connection: sqlite3.Connection, marks: Marks) -> bool:
    """Whether `remember` would change anything."""
    known = remembered(connection)
    if known.incarnation != marks.incarnation:
        return True
    if known.state is not SiteState.CLOSED and known.state is not marks.state:
        return True
    if marks.closing and not known.closing:
        return True
    return merged(known.heads, marks.heads) != dict(known.heads)


def forget_peer(tx: Transaction) -> None:
    """After a rekey: the peer comes as another incarnation, and with nothing open."""
    tx.write(
        "UPDATE witness_peer SET refused = coalesce(incarnation, refused), incarnation = NULL,"
        " state = 'new', era = 0, closing = 0"
    )
    for table in ("witness_heads", "witness_runs", "witness_pads"):
        tx.write(f"DELETE FROM {table}")


def _heads(connection: sqlite3.Connection) -> Mapping[str, ChainHead]:
    rows = connection.execute("SELECT role, number, seq, hash FROM witness_heads")
    return {role: ChainHead(number, seq, digest) for role, number, seq, digest in rows}
