"""`ComparisonStore` over SQLite."""

import json
from collections.abc import Sequence
from typing import Any

from keyferry.store.database import Database
from keyferry.store.leadership import Lead
from keyferry.store.transaction import Transaction
from qkd_api.comparing import answer_as_json, answer_from_json, finding_as_json, finding_from_json
from qkd_core.types.comparing import Comparison, ComparisonAnswer, OpenComparison
from qkd_core.types.ids import Generation, KeyId

RESULT = (
    "SELECT policy, compared_at, generations, bytes_compared, findings, ordered_for, trouble"
    " FROM comparisons WHERE policy = ?"
)
REQUESTS = (
    "SELECT request_id, policy, generations, key_ids, expires_at, answer FROM comparison_requests"
)


class SqliteComparisons:
    """``lead``: with it, writes of a process that has lost the lead raise `Fenced`."""

    def __init__(self, database: Database, lead: Lead) -> None:
        self._db, self._lead = database, lead

    def newest(self, policy: str) -> Comparison:
        rows = self._db.rows(RESULT, policy)
        return _result_from(rows[0]) if rows else Comparison(policy=policy)

    def record(self, comparison: Comparison) -> None:
        def transition(tx: Transaction) -> None:
            self._lead.check(tx)
            tx.write(
                "INSERT INTO comparisons VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (policy)"
                " DO UPDATE SET compared_at = excluded.compared_at,"
                " generations = excluded.generations, bytes_compared = excluded.bytes_compared,"
                " findings = excluded.findings, ordered_for = excluded.ordered_for,"
                " trouble = excluded.trouble",
                *(comparison.policy, comparison.compared_at),
                json.dumps(comparison.generations),
                json.dumps(comparison.bytes_compared),
                json.dumps([finding_as_json(finding) for finding in comparison.findings]),
                *(comparison.ordered_for, comparison.trouble),
            )
            tx.audit(
                "kms_compared",
                policy=comparison.policy,
                generations=[str(generation) for generation in comparison.generations],
                bytes_compared=len(comparison.bytes_compared),
                findings=[str(finding) for finding in comparison.findings],
            )

        self._db.write(transition)

    def note_late(self, policy: str, trouble: str) -> None:
        def transition(tx: Transaction) -> None:
            self._lead.check(tx)
            tx.write(
                "INSERT INTO comparisons (policy, trouble) VALUES (?, ?)"
                " ON CONFLICT (policy) DO UPDATE SET trouble = excluded.trouble",
                *(policy, trouble),
            )

        if self.newest(policy).trouble != trouble:
            self._db.write(transition)

    def ask(self, request: OpenComparison) -> tuple[KeyId, ...]:
        def transition(tx: Transaction) -> tuple[KeyId, ...]:
            rows = tx.connection.execute(
                f"{REQUESTS} WHERE policy = ?", (request.policy,)
            ).fetchall()
            earlier = [_request_from(row) for row in rows]
            if any(each.request_id == request.request_id for each in earlier):
                return ()
            tx.write("DELETE FROM comparison_requests WHERE policy = ?", request.policy)
            tx.write(
                "INSERT INTO comparison_requests"
                " (request_id, policy, generations, key_ids, expires_at) VALUES (?, ?, ?, ?, ?)",
                *(request.request_id, request.policy, json.dumps(request.generations)),
                *(json.dumps(list(request.keys.items())), request.expires_at),
            )
            return tuple(key_id for each in earlier for key_id in each.keys.values())

        return self._db.write(transition)

    def request(self, request_id: str) -> OpenComparison | None:
        found = self._requests("WHERE request_id = ?", request_id)
        return found[0] if found else None

    def unanswered(self) -> tuple[OpenComparison, ...]:
        return self._requests("WHERE answer IS NULL ORDER BY position")

    def answer(self, request_id: str, answer: ComparisonAnswer) -> None:
        def transition(tx: Transaction) -> None:
            self._lead.check(tx)
            tx.write(
                "UPDATE comparison_requests SET answer = ? WHERE request_id = ? AND answer IS NULL",
                *(json.dumps(answer_as_json(answer)), request_id),
            )

        self._db.write(transition)

    def forget(self, request_id: str) -> None:
        self._db.write(
            lambda tx: tx.write("DELETE FROM comparison_requests WHERE request_id = ?", request_id)
        )

    def expired(self, now: float) -> tuple[OpenComparison, ...]:
        return self._requests("WHERE expires_at <= ? ORDER BY position", now)

    def _requests(self, where: str, *values: object) -> tuple[OpenComparison, ...]:
        return tuple(_request_from(row) for row in self._db.rows(f"{REQUESTS} {where}", *values))


def _result_from(row: Sequence[Any]) -> Comparison:
    policy, compared_at, generations, bytes_compared, findings, ordered_for, trouble = row
    return Comparison(
        policy=policy,
        compared_at=compared_at,
        generations=_generations(generations),
        bytes_compared=_generations(bytes_compared),
        findings=tuple(finding_from_json(each) for each in json.loads(findings)),
        ordered_for=None if ordered_for is None else Generation(ordered_for),
        trouble=trouble,
    )


def _request_from(row: Sequence[Any]) -> OpenComparison:
    request_id, policy, generations, key_ids, expires_at, answer = row
    return OpenComparison(
        request_id=request_id,
        policy=policy,
        generations=_generations(generations),
        keys={Generation(number): KeyId(key_id) for number, key_id in json.loads(key_ids)},
        expires_at=expires_at,
        answer=None if answer is None else answer_from_json(json.loads(answer)),
    )


def _generations(text: str) -> tuple[Generation, ...]:
    return tuple(Generation(number) for number in json.loads(text))
