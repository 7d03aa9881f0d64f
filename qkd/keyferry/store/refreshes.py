"""`RefreshStore` over SQLite."""

from collections.abc import Sequence
from uuid import uuid4

from keyferry.store.database import Database
from keyferry.store.leadership import Lead
from keyferry.store.policy_figures import count_move
from keyferry.store.refresh_moves import (
    ALARMS,
    RELEASED_STATES,
    check_unchanged,
    event_of,
    is_new,
    moved,
)
from keyferry.store.transaction import Transaction
from qkd_core.types.ids import Generation, KeyId
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import RunStep

Row = tuple[str, str, int, str, str, int | None, str | None, float]
SELECT = (
    "SELECT run_id, policy, generation, key_id, state, native_version, reason, changed_at"
    " FROM refreshes"
)


class SqliteRefreshes:
    """``lead``: with it, writes of a process that has lost the lead raise `Fenced`."""

    def __init__(self, database: Database, lead: Lead) -> None:
        self._db, self._lead = database, lead

    def begin(self, run: RefreshRun) -> None:
        def transition(tx: Transaction) -> None:
            self._lead.check(tx)
            row = tx.connection.execute(
                f"{SELECT} WHERE run_id = ? OR (policy = ? AND generation = ?)",
                (run.run_id, run.policy, run.generation),
            ).fetchone()
            if is_new(run, _run_from(row) if row else None):
                tx.write(
                    "INSERT INTO refreshes (run_id, policy, generation, key_id, state, changed_at)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    *(run.run_id, run.policy, run.generation, run.key_id, run.state.value, tx.now),
                )
                tx.write("UPDATE policies SET due = 0 WHERE name = ?", run.policy)
                _record(tx, None, run)

        self._db.write(transition)

    def run(self, run_id: str) -> RefreshRun | None:
        runs = self._runs(f"{SELECT} WHERE run_id = ?", run_id)
        return runs[0] if runs else None

    def runs(self, run_ids: Sequence[str]) -> tuple[RefreshRun, ...]:
        marks = ", ".join("?" * len(run_ids))
        return self._runs(f"{SELECT} WHERE run_id IN ({marks})", *run_ids)

    def unfinished(self) -> tuple[RefreshRun, ...]:
        return self._runs(f"{SELECT} WHERE state NOT IN {RELEASED_STATES} ORDER BY position")

    def newest(self, policy: str) -> RefreshRun | None:
        runs = self.history(policy, 1)
        return runs[0] if runs else None

    def done(self, policy: str) -> tuple[RefreshRun, ...]:
        return self._runs(
            f"{SELECT} WHERE policy = ? AND state = 'done' ORDER BY generation", policy
        )

    def in_grace(self) -> tuple[str, ...]:
        rows = self._db.rows(
            "SELECT policy FROM refreshes INDEXED BY refreshes_done WHERE state = 'done'"
            " GROUP BY policy HAVING count(*) > 1"
        )
        return tuple(str(row[0]) for row in rows)

    def history(self, policy: str, limit: int) -> tuple[RefreshRun, ...]:
        return self._runs(
            f"{SELECT} WHERE policy = ? ORDER BY generation DESC LIMIT ?", policy, limit
        )

    def steps(self, run_id: str) -> tuple[RunStep, ...]:
        rows = self._db.read(
            lambda connection: connection.execute(
                "SELECT state, at, note FROM refresh_steps WHERE run_id = ? ORDER BY step",
                (run_id,),
            ).fetchall()
        )
        return tuple(
            RunStep(state=RefreshState(state), at=at, note=note) for state, at, note in rows
        )

    def move(
        self,
        run_id: str,
        state: RefreshState,
        *,
        native_version: int | None = None,
        reason: str | None = None,
        only_if: RefreshRun | None = None,
    ) -> RefreshRun:
        def transition(tx: Transaction) -> RefreshRun:
            self._lead.check(tx)
            row = tx.connection.execute(f"{SELECT} WHERE run_id = ?", (run_id,)).fetchone()
            if row is None:
                raise ValueError(f"refresh run {run_id} is not known")
            before = _run_from(row)
            check_unchanged(before, only_if)
            run = moved(before, state, native_version, reason)
            tx.write(
                "UPDATE refreshes SET state = ?, native_version = ?, reason = ?, changed_at = ?"
                " WHERE run_id = ?",
                *(run.state.value, run.native_version, run.reason, tx.now, run_id),
            )
            _record(tx, before.state, run, reason)
            if state is RefreshState.DONE:
                tx.write(
                    "INSERT INTO active_events (event_id, policy, generation, key_id, at)"
                    " VALUES (?, ?, ?, ?, ?)",
                    *(str(uuid4()), run.policy, run.generation, run.key_id, tx.now),
                )
            return run

        return self._db.write(transition)

    def _runs(self, sql: str, *values: object) -> tuple[RefreshRun, ...]:
        return self._db.read(
            lambda connection: tuple(_run_from(row) for row in connection.execute(sql, values))
        )


def _run_from(row: Row) -> RefreshRun:
    run_id, policy, generation, key_id, state, native_version, reason, changed_at = row
    return RefreshRun(
        run_id=run_id,
        policy=policy,
        generation=Generation(generation),
        key_id=KeyId(key_id),
        state=RefreshState(state),
        native_version=native_version,
        reason=reason,
        changed_at=changed_at,
    )


def _record(
    tx: Transaction, before: RefreshState | None, run: RefreshRun, note: str | None = None
) -> None:
    """The step with its time, the counts, the audit record, and the alarm if it is one."""
    count_move(tx, run.policy, before, run.state)
    tx.write(
        "INSERT INTO refresh_steps SELECT ?, count(*), ?, ?, ? FROM refresh_steps WHERE run_id = ?",
        *(run.run_id, run.state.value, tx.now, note, run.run_id),
    )
    known = {"native_version": run.native_version, "reason": run.reason}
    tx.audit(
        event_of(before, run.state),
        run_id=run.run_id,
        policy=run.policy,
        generation=run.generation,
        key_id=run.key_id,
        **{name: value for name, value in known.items() if value is not None},
    )
    if run.state in ALARMS:
        tx.alarm(ALARMS[run.state])
