"""What the link may still spend: no block is begun that the site's limit has no epsilon for."""

from dataclasses import dataclass

from qkd_core.errors import EpsilonSpent
from qkd_core.ports import EpsilonLedger
from qkd_core.proofs.ledger import at_least, block_units, shown
from qkd_core.types.plans import SecurityPolicy


@dataclass(frozen=True, slots=True)
class Budget:
    """Of one link at one site; ``policy``: what each block costs.

    The limit is this site's own: its peer may have another one, or none. Whichever end comes to its
    own first begins no block any more, which the other one sees as silence, at the cost of the
    blocks that it has begun meanwhile.
    """

    ledger: EpsilonLedger
    policy: SecurityPolicy

    def allows_a_block(self) -> bool:
        return self.ledger.allows(self.policy)

    def require_a_block(self) -> None:
        """Raises EpsilonSpent."""
        if not self.allows_a_block():
            figures, cost = self.ledger.figures(), at_least(block_units(self.policy))
            raise EpsilonSpent(
                f"epsilon {shown(figures.total)} is spent, a block costs {shown(cost)},"
                f" security.epsilon_limit is {figures.limits.limit}"
            )
