"""`EpsilonLedger` over SQLite."""

from keyferry.store.database import Database
from keyferry.store.epsilon_rows import ledger_in, raise_alarm_if_due
from keyferry.store.transaction import Transaction
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.figures import EpsilonFigures
from qkd_core.types.plans import SecurityPolicy


class SqliteEpsilon:
    def __init__(self, database: Database) -> None:
        self._db = database

    def set_limits(self, limits: EpsilonLimits) -> None:
        def transition(tx: Transaction) -> None:
            if ledger_in(tx.connection).limits == limits:
                return
            tx.write(
                "UPDATE epsilon_state SET alarm = ?, most = ?, alarmed = 0",
                *(limits.alarm, limits.limit),
            )
            tx.audit("epsilon_limits", **limits.as_fields())
            raise_alarm_if_due(tx)

        self._db.write(transition)

    def allows(self, policy: SecurityPolicy) -> bool:
        ledger = self._db.read(ledger_in)
        allowed = ledger.allows(policy)
        if allowed is ledger.exhausted:
            self._db.write(lambda tx: _note_change(tx, policy))
        return allowed

    def figures(self) -> EpsilonFigures:
        return self._db.read(ledger_in).figures(self._db.site.link_id)


def _note_change(tx: Transaction, policy: SecurityPolicy) -> None:
    """Whether blocks may begin is another thing now than people were told last."""
    ledger = ledger_in(tx.connection)
    allowed = ledger.allows(policy)
    if allowed is not ledger.exhausted:
        return
    tx.write("UPDATE epsilon_state SET exhausted = ?", not allowed)
    tx.audit(
        "epsilon_resumed" if allowed else "epsilon_exhausted",
        spent=ledger.spent,
        **ledger.limits.as_fields(),
    )
    if not allowed:
        tx.alarm("epsilon_exhausted")
