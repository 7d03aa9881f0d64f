"""`RefreshStore` over SQLite."""

from keyferry.store.database import Database
from keyferry.store.refresh_moves import is_new, moved
from keyferry.store.transaction import Transaction
from qkd_core.types.ids import Generation, KeyId
from qkd_core.types.keys import RefreshRun, RefreshState

Row = tuple[str, str, int, str, str, int | None, str | None]


class SqliteRefreshes:
    def __init__(self, database: Database) -> None:
        self._db = database

    def begin(self, run: RefreshRun) -> None:
        def transition(tx: Transaction) -> None:
            row = tx.connection.execute(
                "SELECT run_id, policy, generation, key_id, state, native_version, reason"
                " FROM refreshes WHERE run_id = ? OR (policy = ? AND generation = ?)",
                (run.run_id, run.policy, run.generation),
            ).fetchone()
            if is_new(run, _run_from(row) if row else None):
                tx.write(
                    "INSERT INTO refreshes (run_id, policy, generation, key_id, state)"
                    " VALUES (?, ?, ?, ?, ?)",
                    *(run.run_id, run.policy, run.generation, run.key_id, run.state.value),
                )
                _audit(tx, run)

        self._db.write(transition)

    def run(self, run_id: str) -> RefreshRun | None:
        runs = self._runs(
            "SELECT run_id, policy, generation, key_id, state, native_version, reason"
            " FROM refreshes WHERE run_id = ?",
            run_id,
        )
        return runs[0] if runs else None

    def unfinished(self) -> tuple[RefreshRun, ...]:
        return self._runs(
            "SELECT run_id, policy, generation, key_id, state, native_version, reason"
            " FROM refreshes WHERE state NOT IN ('done', 'aborted', 'blocked') ORDER BY position"
        )

    def newest(self, policy: str) -> RefreshRun | None:
        runs = self._runs(
            "SELECT run_id, policy, generation, key_id, state, native_version, reason"
            " FROM refreshes WHERE policy = ? ORDER BY generation DESC LIMIT 1",
            policy,
        )
        return runs[0] if runs else None

    def move(
        self,
        run_id: str,
        state: RefreshState,
        *,
        native_version: int | None = None,
        reason: str | None = None,
    ) -> RefreshRun:
        def transition(tx: Transaction) -> RefreshRun:
            row = tx.connection.execute(
                "SELECT run_id, policy, generation, key_id, state, native_version, reason"
                " FROM refreshes WHERE run_id = ?",
                (run_id,),
            ).fetchone()
            if row is None:
                raise ValueError(f"refresh run {run_id} is not known")
            run = moved(_run_from(row), state, native_version, reason)
            tx.write(
                "UPDATE refreshes SET state = ?, native_version = ?, reason = ? WHERE run_id = ?",
                *(run.state.value, run.native_version, run.reason, run_id),
            )
            _audit(tx, run)
            return run

        return self._db.write(transition)

    def _runs(self, sql: str, *values: object) -> tuple[RefreshRun, ...]:
        return self._db.read(
            lambda connection: tuple(_run_from(row) for row in connection.execute(sql, values))
        )


def _run_from(row: Row) -> RefreshRun:
    run_id, policy, generation, key_id, state, native_version, reason = row
    return RefreshRun(
        run_id=run_id,
        policy=policy,
        generation=Generation(generation),
        key_id=KeyId(key_id),
        state=RefreshState(state),
        native_version=native_version,
        reason=reason,
    )


def _audit(tx: Transaction, run: RefreshRun) -> None:
    known = {"native_version": run.native_version, "reason": run.reason}
    tx.audit(
        f"refresh_{run.state.value}",
        run_id=run.run_id,
        policy=run.policy,
        generation=run.generation,
        key_id=run.key_id,
        **{name: value for name, value in known.items() if value is not None},
    )
