"""The epsilon ledger as rows: one for each kind of thing and what one of them costs.

Costs are exact integers, which SQLite's own are too short for; they stand as decimal text.
"""

import sqlite3

from keyferry.store.transaction import Transaction
from qkd_core.proofs.ledger import TAG_UNITS, Ledger, LedgerEntry, block_units
from qkd_core.types.epsilon import EpsilonLimits, Spender
from qkd_core.types.plans import SecurityPolicy

# `since`: when the pre-shared secret came; `most`: the limit.
EPSILON_TABLES = """
CREATE TABLE epsilon (
  what TEXT NOT NULL, units TEXT NOT NULL, times INTEGER NOT NULL, PRIMARY KEY (what, units)
) WITHOUT ROWID;
CREATE TABLE epsilon_state (
  one INTEGER PRIMARY KEY CHECK (one = 1), since REAL, alarm REAL, most REAL,
  alarmed INTEGER NOT NULL DEFAULT 0, exhausted INTEGER NOT NULL DEFAULT 0
);
"""


def begin_ledger(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO epsilon_state (one) VALUES (1)")


def ledger_in(connection: sqlite3.Connection) -> Ledger:
    rows = connection.execute("SELECT what, units, times FROM epsilon").fetchall()
    since, alarm, most, alarmed, exhausted = connection.execute(
        "SELECT since, alarm, most, alarmed, exhausted FROM epsilon_state"
    ).fetchone()
    return Ledger(
        entries=tuple(LedgerEntry(Spender(what), int(units), n) for what, units, n in rows),
        limits=EpsilonLimits(alarm=alarm, limit=most),
        since=since,
        alarmed=bool(alarmed),
        exhausted=bool(exhausted),
    )


def spend_block(tx: Transaction, policy: SecurityPolicy) -> None:
    """A block begins; the alarm comes with the block that reaches its value."""
    _spend(tx, Spender.BLOCK, block_units(policy), 1)
    raise_alarm_if_due(tx)


def spend_tags(tx: Transaction, n_tags: int) -> None:
    """So many pads were marked used, verified or burnt."""
    _spend(tx, Spender.TAG, TAG_UNITS, n_tags)


def raise_alarm_if_due(tx: Transaction) -> None:
    ledger = ledger_in(tx.connection)
    if ledger.alarm_is_due:
        tx.write("UPDATE epsilon_state SET alarmed = 1")
        tx.alarm("epsilon")
        tx.audit("epsilon_alarm", spent=ledger.spent, **ledger.limits.as_fields())


def begin_anew(tx: Transaction) -> None:
    """A pre-shared secret came: what is spent from now on is a new sum."""
    ledger = ledger_in(tx.connection)
    if ledger.entries:
        tx.audit(
            "epsilon_closed",
            spent=ledger.spent,
            blocks=ledger.number(Spender.BLOCK),
            tags=ledger.number(Spender.TAG),
        )
    tx.write("DELETE FROM epsilon")
    tx.write("UPDATE epsilon_state SET since = ?, alarmed = 0, exhausted = 0", tx.now)


def _spend(tx: Transaction, what: Spender, units: int, times: int) -> None:
    tx.write(
        "INSERT INTO epsilon VALUES (?, ?, ?)"
        " ON CONFLICT (what, units) DO UPDATE SET times = times + excluded.times",
        *(what.value, str(units), times),
    )
