"""Who writes this site's refresh runs: the process that took the lead last."""

from dataclasses import dataclass

from keyferry.store.transaction import Transaction
from qkd_core.errors import Fenced


@dataclass(slots=True)
class Lead:
    """This process's number; 0 until it takes the lead, and for processes that never do."""

    fence: int = 0

    def take(self, tx: Transaction, holder: str) -> int:
        tx.write(
            "INSERT INTO leadership VALUES (1, 1, ?) ON CONFLICT (one)"
            " DO UPDATE SET fence = fence + 1, holder = excluded.holder",
            holder,
        )
        fence = int(tx.connection.execute("SELECT fence FROM leadership").fetchone()[0])
        tx.audit("lead_taken", fence=fence, by=holder)
        return fence

    def check(self, tx: Transaction) -> None:
        """Raises Fenced when this process led and another one does now."""
        if not self.fence:
            return
        fence, holder = tx.connection.execute("SELECT fence, holder FROM leadership").fetchone()
        if fence != self.fence:
            raise Fenced(f"{holder} leads the refresh runs of this site, this process no more")
