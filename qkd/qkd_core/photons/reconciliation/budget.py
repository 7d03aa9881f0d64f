"""What the two ends have announced so far, equal at both, so that both give up together."""

from dataclasses import dataclass

from qkd_core.errors import ReconciliationFailed
from qkd_core.types.plans import BlockPlan
from qkd_core.types.reconciliation import NOTHING, Disclosed


@dataclass(slots=True)
class Budget:
    """Counts what is announced before it is sent, and keeps it within the plan."""

    plan: BlockPlan
    disclosed: Disclosed = NOTHING

    def spend(self, about_key: int, about_errors: int) -> None:
        """Raises ReconciliationFailed when the plan does not allow so many bits more."""
        if about_key == about_errors == 0:
            return
        disclosed = Disclosed(
            about_key=self.disclosed.about_key + about_key,
            about_errors=self.disclosed.about_errors + about_errors,
        )
        leak_ec = self.plan.leak_ec(disclosed)
        if leak_ec > self.plan.leak_ec_max:
            raise ReconciliationFailed(
                f"{leak_ec} bits leaked, the plan allows {self.plan.leak_ec_max}"
            )
        self.disclosed = disclosed
