"""Orders that destroy key ask twice: the first call says what would happen and gives a code.

The second call carries the code, within five minutes, and may be another person's. Codes are kept
in the store, so that both calls may reach different processes, or the store itself.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keyferry.operator.socket import Caller
from keyferry.store.database import Database
from keyferry.store.transaction import Transaction
from qkd_core.errors import ConfigError

CODE_BYTES = 4
VALID_S = 300.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done, in words that name it wholly; a code holds for exactly this."""

    text: str


class Confirmations:
    def __init__(self, database: Database) -> None:
        self._db = database

    def twice(
        self,
        order: Order,
        request: Mapping[str, Any],
        caller: Caller,
        carry_out: Callable[[str], Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Carry out what is confirmed; otherwise say what would happen, and how to confirm it.

        ``carry_out`` is given who asked and who confirmed. Raises ConfigError, and as it does.
        """
        code = request.get("confirm")
        if code is None:
            return {"would": order.text, "code": self.ask(order, caller)}
        asked_by = self.confirm(order, str(code), caller)
        done = carry_out(f"ordered by {asked_by}, confirmed by {caller}")
        return {"done": order.text, **done}

    def ask(self, order: Order, caller: Caller) -> str:
        """A code for ``order``, valid for five minutes and for one use."""
        code = secrets.token_hex(CODE_BYTES)

        def transition(tx: Transaction) -> None:
            tx.write("DELETE FROM confirmations WHERE abs(asked_at - ?) > ?", tx.now, VALID_S)
            tx.write(
                "INSERT INTO confirmations VALUES (?, ?, ?, ?)",
                *(code, order.text, tx.now, str(caller)),
            )
            tx.audit("order_asked", order=order.text, by=str(caller))

        self._db.write(transition)
        return code

    def confirm(self, order: Order, code: str, caller: Caller) -> str:
        """Use up the code; returns who had asked. Raises ConfigError when it does not hold."""

        def transition(tx: Transaction) -> str | None:
            row = tx.connection.execute(
                "SELECT command, asked_at, asked_by FROM confirmations WHERE code = ?", (code,)
            ).fetchone()
            if row is None or row[0] != order.text or abs(tx.now - row[1]) > VALID_S:
                tx.audit("order_refused", order=order.text, by=str(caller))
                return None
            tx.write("DELETE FROM confirmations WHERE code = ?", code)
            asked_by: str = row[2]
            tx.audit("order_confirmed", order=order.text, by=str(caller), asked_by=asked_by)
            return asked_by

        asked_by = self._db.write(transition)
        if asked_by is None:
            raise ConfigError(f"--confirm {code}: no such code for this order, or it is too old")
        return asked_by
