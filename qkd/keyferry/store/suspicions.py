"""What an attacker or a faulty peer can bring about as often as he likes.

Each event counts. The audit has the first of each kind with all that is known of it, and from then
on at most one record a minute, which says how many came since: nobody can fill it from outside.
"""

from keyferry.store.database import Database
from keyferry.store.transaction import Transaction

MINUTE_S = 60


def suspect(tx: Transaction, action: str, **fields: str | int | float | list[str]) -> None:
    """Note one event of the kind ``action``, which is an alarm."""
    tx.alarm(action)
    note_repeat(tx, action, **fields)


def note_repeat(tx: Transaction, action: str, **fields: str | int | float | list[str]) -> None:
    """Note one event that may be ordinary; ``repeats``: how many had no record of their own."""
    minute = int(tx.now // MINUTE_S)
    known = tx.connection.execute(
        "SELECT minute, repeats FROM suspicions WHERE action = ?", (action,)
    ).fetchone()
    if known is not None and known[0] == minute:
        tx.write("UPDATE suspicions SET repeats = repeats + 1 WHERE action = ?", action)
        return
    tx.write("INSERT OR REPLACE INTO suspicions VALUES (?, ?, 0)", action, minute)
    tx.audit(action, repeats=known[1] if known else 0, **fields)


def write_up_repeats(database: Database) -> None:
    """Record what came since the last record of each kind, once its minute is over."""
    if database.rows("SELECT 1 FROM suspicions WHERE repeats > 0"):
        database.write(_write_up)


def _write_up(tx: Transaction) -> None:
    minute = int(tx.now // MINUTE_S)
    rows = tx.connection.execute(
        "SELECT action, repeats FROM suspicions WHERE repeats > 0 AND minute <> ?", (minute,)
    ).fetchall()
    for action, repeats in rows:
        tx.write("UPDATE suspicions SET minute = ?, repeats = 0 WHERE action = ?", minute, action)
        tx.audit(action, repeats=repeats)
