"""`PolicyStore` over SQLite."""

from collections.abc import Callable
from typing import Any

from keyferry.store.database import Database
from keyferry.store.leadership import Lead
from keyferry.store.transaction import Transaction
from qkd_core.types.ids import Generation
from qkd_core.types.refresh import ActiveEvent, PolicyState

Change = Callable[[Transaction, PolicyState], object]

TOO_OLD = "generation_too_old"
COLUMNS = "paused_by, due, last_slot, late_since, trouble"


class SqlitePolicies:
    def __init__(self, database: Database, lead: Lead) -> None:
        self._db, self._lead = database, lead

    def lead(self, holder: str) -> int:
        fence = self._db.write(lambda tx: self._lead.take(tx, holder))
        self._lead.fence = fence
        return fence

    def states(self) -> dict[str, PolicyState]:
        rows = self._db.read(
            lambda connection: connection.execute(
                f"SELECT name, {COLUMNS} FROM policies"
            ).fetchall()
        )
        return {name: _state_from(row) for name, *row in rows}

    def state(self, policy: str) -> PolicyState:
        return self._db.read(
            lambda connection: _state_from(
                connection.execute(
                    f"SELECT {COLUMNS} FROM policies WHERE name = ?",
                    (policy,),
                ).fetchone()
            )
        )

    def make_due(self, policy: str, slot: float | None, by: str) -> None:
        def transition(tx: Transaction, known: PolicyState) -> None:
            if slot is None:
                tx.write("UPDATE policies SET due = 1 WHERE name = ?", policy)
                tx.audit("refresh_ordered", policy=policy, by=by)
            elif known.last_slot is None or slot > known.last_slot:
                tx.write("UPDATE policies SET due = 1, last_slot = ? WHERE name = ?", slot, policy)

        self._change(policy, transition)

    def pass_over(self, policy: str, why: str) -> None:
        def transition(tx: Transaction, known: PolicyState) -> None:
            if known.due:
                tx.write("UPDATE policies SET due = 0 WHERE name = ?", policy)
                tx.audit("refresh_passed_over", policy=policy, reason=why)

        self._change(policy, transition)

    def pass_slot_over(self, policy: str, slot: float, why: str) -> None:
        def transition(tx: Transaction, known: PolicyState) -> None:
            if known.last_slot is None or slot > known.last_slot:
                tx.write("UPDATE policies SET last_slot = ? WHERE name = ?", slot, policy)
                if not known.due:
                    tx.audit("refresh_passed_over", policy=policy, reason=why)

        self._change(policy, transition)

    def anchor(self, policy: str, slot: float) -> None:
        self._change(
            policy,
            lambda tx, _: tx.write(
                "UPDATE policies SET last_slot = ? WHERE name = ?", slot, policy
            ),
        )

    def pause(self, policy: str, by: str) -> None:
        self._set_paused(policy, by, "policy_paused", by)

    def resume(self, policy: str, by: str) -> None:
        self._set_paused(policy, None, "policy_resumed", by)

    def note_late(self, policy: str, trouble: str) -> None:
        def transition(tx: Transaction, known: PolicyState) -> None:
            if known.late_since is None or known.trouble != trouble:
                since = tx.now if known.late_since is None else known.late_since
                tx.write(
                    "UPDATE policies SET late_since = ?, trouble = ? WHERE name = ?",
                    *(since, trouble, policy),
                )

        if self.state(policy).trouble != trouble:
            self._change(policy, transition)

    def note_refused(self, policy: str, trouble: str) -> None:
        def transition(tx: Transaction, known: PolicyState) -> None:
            tx.write(
                "UPDATE policies SET late_since = NULL, trouble = ? WHERE name = ?",
                *(trouble, policy),
            )
            if known.trouble != trouble:
                tx.alarm("refresh_refused")
                tx.audit("refresh_refused", policy=policy, reason=trouble)

        self._change(policy, transition)

    def note_on_time(self, policy: str) -> None:
        if self.state(policy).trouble is not None:
            self._change(
                policy,
                lambda tx, _: tx.write(
                    "UPDATE policies SET late_since = NULL, trouble = NULL WHERE name = ?", policy
                ),
            )

    def note_alarm(self, kind: str, policy: str, detail: str) -> None:
        def transition(tx: Transaction) -> None:
            self._lead.check(tx)
            tx.alarm(kind)
            tx.audit(kind, policy=policy, detail=detail)

        self._db.write(transition)

    def note_too_old(self, policy: str, generation: Generation, detail: str) -> None:
        def transition(tx: Transaction, _: PolicyState) -> None:
            news = tx.write(
                "UPDATE policies SET too_old = ? WHERE name = ? AND too_old < ?",
                *(generation, policy, generation),
            )
            if news:
                tx.alarm(TOO_OLD)
                tx.audit(TOO_OLD, policy=policy, generation=generation, detail=detail)

        self._change(policy, transition)

    def events(self, limit: int) -> tuple[ActiveEvent, ...]:
        rows = self._db.read(
            lambda connection: connection.execute(
                "SELECT event_id, policy, generation, key_id, at, tries FROM active_events"
                " ORDER BY position LIMIT ?",
                (limit,),
            ).fetchall()
        )
        return tuple(
            ActiveEvent(
                event_id=event_id,
                policy=policy,
                generation=Generation(generation),
                key_id=key_id,
                at=at,
                tries=tries,
            )
            for event_id, policy, generation, key_id, at, tries in rows
        )

    def event_tried(self, event_id: str) -> None:
        self._db.write(
            lambda tx: tx.write(
                "UPDATE active_events SET tries = tries + 1 WHERE event_id = ?", event_id
            )
        )

    def event_ended(self, event_id: str, problem: str | None) -> None:
        def transition(tx: Transaction) -> None:
            row = tx.connection.execute(
                "SELECT policy, generation FROM active_events WHERE event_id = ?", (event_id,)
            ).fetchone()
            if row is None:
                return
            tx.write("DELETE FROM active_events WHERE event_id = ?", event_id)
            if problem is not None:
                tx.alarm("consumer_not_told")
                tx.audit("consumer_not_told", policy=row[0], generation=row[1], reason=problem)

        self._db.write(transition)

    def _set_paused(self, policy: str, value: str | None, action: str, by: str) -> None:
        def transition(tx: Transaction, known: PolicyState) -> None:
            if (known.paused_by is None) != (value is None):
                tx.write("UPDATE policies SET paused_by = ? WHERE name = ?", value, policy)
                tx.audit(action, policy=policy, by=by)

        self._change(policy, transition)

    def _change(self, policy: str, change: Change) -> None:
        def transition(tx: Transaction) -> None:
            self._lead.check(tx)
            tx.write("INSERT OR IGNORE INTO policies (name) VALUES (?)", policy)
            row = tx.connection.execute(
                f"SELECT {COLUMNS} FROM policies WHERE name = ?",
                (policy,),
            ).fetchone()
            change(tx, _state_from(row))

        self._db.write(transition)


def _state_from(row: Any) -> PolicyState:
    if row is None:
        return PolicyState()
    paused_by, due, last_slot, late_since, trouble = row
    return PolicyState(
        paused_by=paused_by,
        due=bool(due),
        last_slot=last_slot,
        late_since=late_since,
        trouble=trouble,
    )
