"""The two ends of a link of entangled pairs."""

from collections.abc import Callable
from dataclasses import dataclass

from keyferry.channel.conversation import Conversation
from keyferry.engine.planning import USUAL, PadRefill, require_plan_for
from keyferry.engine.terms import LinkTerms
from qkd_core.errors import PlanRefused
from qkd_core.photons.pair_sifting import sift_pairs
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.ports import PadStore, PairDevice
from qkd_core.proofs.pair_plan import PairRequest, check_pair_plan, plan_pairs
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import SiftedKey
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import BlockPlan, PairPlan, PairSettings
from qkd_core.types.reconciliation import Reconciliation


@dataclass(slots=True, kw_only=True)
class PairAlice:
    """The end that plans. ``qber``: the error rate that is planned for."""

    terms: LinkTerms
    device: PairDevice
    pads: PadStore
    qber: float
    correction: Callable[[int, float], Reconciliation]
    refill: PadRefill = USUAL

    def plan(self, block_id: BlockId) -> PairPlan:
        """Raises PlanRefused, ProvenanceRefused, LinkError."""
        provenance = self.device.provenance
        self.terms.require(provenance)
        settings = self.terms.settings
        if not isinstance(settings, PairSettings):
            raise PlanRefused("the link's settings are not for entangled pairs")
        how = self.correction(settings.n_key, self.qber)
        return plan_pairs(
            PairRequest(
                terms=self.terms.planning(self.refill.pads_now(self.pads)),
                block_id=block_id,
                provenance=provenance,
                reconciliation=how,
                disclosed_expected=disclosed_expected,
                qber=self.qber,
            )
        )

    def sifted(self, talk: Conversation, plan: BlockPlan) -> SiftedKey:
        settings = of_pairs(plan).settings
        self.device.arm(plan.block_id, settings)
        talk.send(MessageKind.START, b"")
        outcomes = self.device.outcomes(plan.block_id)
        return sift_pairs(outcomes, talk, plan.block_id, settings, Side.A)


@dataclass(slots=True, kw_only=True)
class PairBob:
    """The end that checks the plan."""

    terms: LinkTerms
    device: PairDevice

    def check(self, plan: BlockPlan, block_id: BlockId) -> None:
        """Raises PlanRefused, ProvenanceRefused, LinkError."""
        require_plan_for(plan, self.terms, block_id, self.device.provenance)
        own = self.terms.planning(plan.segment_pads)
        check_pair_plan(of_pairs(plan), own, self.terms.accept_provenance)

    def sifted(self, talk: Conversation, plan: BlockPlan) -> SiftedKey:
        settings = of_pairs(plan).settings
        self.device.arm(plan.block_id, settings)
        talk.receive(MessageKind.START)
        outcomes = self.device.outcomes(plan.block_id)
        return sift_pairs(outcomes, talk, plan.block_id, settings, Side.B)


def of_pairs(plan: BlockPlan) -> PairPlan:
    """Raises PlanRefused for a plan of another kind."""
    if not isinstance(plan, PairPlan):
        raise PlanRefused(f"a plan by {plan.theorem!r} is not for entangled pairs")
    return plan
