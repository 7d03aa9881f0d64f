"""Figures of refresh policies; none costs a walk over the runs that are over."""

import json
import sqlite3
from collections.abc import Mapping, Set
from typing import Any

from keyferry.store.refresh_moves import RELEASED_STATES
from keyferry.store.transaction import Transaction
from qkd_core.types.figures import PolicyFigures
from qkd_core.types.keys import RefreshState

RUNS = "runs "  # names of tally rows that count runs by state and policy begin so

# With max(), SQLite takes the other columns from the row that has it: lang_select.html, "Bare
# columns in an aggregate query". The indices hold active runs, runs in grace and unfinished ones.
ACTIVE = (
    "SELECT policy, max(generation), changed_at FROM refreshes INDEXED BY refreshes_done"
    " WHERE state = 'done' GROUP BY policy"
)
UNDER_WAY = (
    "SELECT policy, state FROM refreshes INDEXED BY refreshes_unfinished"
    f" WHERE state NOT IN {RELEASED_STATES} ORDER BY position"
)
NEWEST = (
    "SELECT runs.policy, runs.state FROM json_each(?) AS each JOIN refreshes AS runs"
    " ON runs.policy = each.value AND runs.generation = ("
    "SELECT max(generation) FROM refreshes WHERE policy = each.value)"
)
KNOWN = "SELECT name, late_since IS NOT NULL, trouble IS NOT NULL, paused_by IS NOT NULL"


def count_move(
    tx: Transaction, policy: str, before: RefreshState | None, after: RefreshState
) -> None:
    """A run of ``policy`` left ``before``, if it was in any, and is in ``after``."""
    if before is not None:
        tx.count(f"{RUNS}{before.value} {policy}", -1)
    tx.count(f"{RUNS}{after.value} {policy}")


def runs_counted(tally: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """Runs by (policy, state), those of no run left out. No name of a policy has a blank."""
    counts = {}
    for name, value in tally.items():
        if name.startswith(RUNS) and value:
            state, _, policy = name.removeprefix(RUNS).partition(" ")
            counts[policy, state] = int(value)
    return counts


def policies_in(connection: sqlite3.Connection, with_runs: Set[str]) -> dict[str, PolicyFigures]:
    """By name. ``with_runs``: the policies that have any."""
    newest: dict[str, str] = dict(
        connection.execute(NEWEST, (json.dumps(sorted(with_runs)),)).fetchall()
    )
    active = {name: rest for name, *rest in connection.execute(ACTIVE)}
    under_way: dict[str, str] = dict(connection.execute(UNDER_WAY).fetchall())
    known = {name: rest for name, *rest in connection.execute(f"{KNOWN} FROM policies")}
    found = {}
    for name in sorted({*with_runs, *known}):
        generation, since = active.get(name, (0, None))
        late, trouble, paused = map(bool, known.get(name, (0, 0, 0)))
        found[name] = PolicyFigures(
            generation=generation,
            active_since=since,
            newest=newest.get(name),
            under_way=under_way.get(name),
            late=late,
            refused=trouble and not late,
            paused=paused,
        )
    return found
