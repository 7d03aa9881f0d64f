"""What Alice's ends have in common when they plan, and Bob's when they take a plan."""

from dataclasses import dataclass

from keyferry.engine.terms import LinkTerms
from qkd_core.errors import ConfigError, PlanRefused
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.ports import PadStore
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import BlockPlan, LinkKind
from qkd_core.types.reconciliation import Method

SEGMENT_PADS_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PadRefill:
    """How the authentication pool is kept full: pads per block while fewer than ``enough``."""

    pads_per_block: int = 32
    enough: int = 4096

    def pads_now(self, pads: PadStore) -> int:
        """Pads for the next block to refill."""
        short = any(pads.remaining(side, Lane.POOL) < self.enough for side in Side)
        return self.pads_per_block if short else 0


USUAL = PadRefill()


def require_plan_for(
    plan: BlockPlan, terms: LinkTerms, block_id: BlockId, provenance: Provenance
) -> None:
    """Raise PlanRefused unless the peer's plan is for this block and this device.

    Nor may it name a way to correct errors that this version does not know, or none where there
    may be errors.

    How many pads a block refills is for the planner to say, up to a limit.
    """
    if plan.block_id != block_id:
        raise PlanRefused(f"the plan is for block {plan.block_id}, {block_id} is on")
    if plan.reconciliation.method is Method.NONE and plan.kind is not LinkKind.VENDOR_KEYS:
        raise PlanRefused(f"the plan corrects no errors of {plan.kind.value}")
    try:
        disclosed_expected(1, plan.qber_expected, plan.reconciliation)
    except ConfigError as error:  # a variant of another version
        raise PlanRefused(str(error)) from error
    if not 0 <= plan.segment_pads <= SEGMENT_PADS_MAX:
        raise PlanRefused(f"{plan.segment_pads} pads to refill, the limit is {SEGMENT_PADS_MAX}")
    if plan.provenance is not provenance and plan.provenance in terms.accept_provenance:
        raise PlanRefused(f"the plan says {plan.provenance}, the device here is {provenance}")
