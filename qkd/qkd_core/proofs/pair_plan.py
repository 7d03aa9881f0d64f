"""The plan of a block of entangled pairs, by `proofs.bbm92`: sizes, thresholds and length.

The length is a pure function of the plan, as in `proofs.plan`.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from qkd_core.errors import PlanRefused
from qkd_core.proofs import bbm92
from qkd_core.proofs.binomial import quantile
from qkd_core.proofs.terms import (
    SECRET_BITS_STEP,
    BlockRequest,
    Terms,
    disclosed_max,
    refuse_other_terms,
    refuse_out_of_range,
    refuse_outside,
    refuse_without_key,
)
from qkd_core.types.ids import Provenance
from qkd_core.types.plans import PairPlan, PairSettings

FRAME_FAILURE = 2e-3  # probability, at most: a frame that fails is announced whole


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRequest(BlockRequest):
    """What one block of pairs is planned from: the error rate that is expected in both bases."""

    qber: float


def plan_pairs(request: PairRequest) -> PairPlan:
    """Plan one block. Raises PlanRefused when no key would be left after the pool's segments."""
    terms = request.terms
    settings = terms.settings
    if not isinstance(settings, PairSettings):
        raise PlanRefused("the terms are not for entangled pairs")
    abort_rate = terms.policy.abort_rate
    plan = PairPlan(
        block_id=request.block_id,
        link_id=terms.link_id,
        theorem=bbm92.THEOREM,
        settings=settings,
        policy=terms.policy,
        test_errors_max=bbm92.errors_accepted(settings.n_test, request.qber, abort_rate),
        reconciliation=request.reconciliation,
        qber_expected=request.qber,
        leak_ec_max=0,
        n_secret=0,
        segment_pads=terms.segment_pads,
        provenance=request.provenance,
        config_digest=terms.config_digest,
    )
    leak = plan.leak_ec(disclosed_max(request, settings.n_key, request.qber))
    leak += _failing_frames(plan) * min(plan.reconciliation.frame_bits, settings.n_key)
    plan = replace(plan, leak_ec_max=leak)
    plan = replace(plan, n_secret=n_secret_allowed(plan))
    refuse_without_key(plan)
    return plan


def n_secret_allowed(plan: PairPlan) -> int:
    """The secret bits that the plan's own thresholds allow; `plan.n_secret` is not read."""
    premises = bbm92.Premises(
        n_key=plan.settings.n_key,
        n_test=plan.settings.n_test,
        test_errors_max=plan.test_errors_max,
        leak_ec=plan.leak_ec_max,
        eps_sec=plan.policy.eps_sec,
        eps_cor=plan.policy.eps_cor,
    )
    n_secret = bbm92.bounds(premises).n_secret
    return n_secret - n_secret % SECRET_BITS_STEP


def check_pair_plan(plan: PairPlan, own: Terms, accept_provenance: Collection[Provenance]) -> None:
    """As `proofs.plan.check_plan`. Raises PlanRefused, ProvenanceRefused."""
    refuse_other_terms(plan, own, accept_provenance)
    if plan.theorem != bbm92.THEOREM:
        raise PlanRefused(f"theorem {plan.theorem!r} is unknown, {bbm92.THEOREM!r} is not")
    refuse_outside("a count of errors", plan.test_errors_max, 0, plan.settings.n_test)
    refuse_out_of_range(plan, plan.settings.n_key)
    allowed = n_secret_allowed(plan)
    if plan.n_secret > allowed:
        raise PlanRefused(f"n_secret {plan.n_secret}, the plan's own thresholds give {allowed}")
    refuse_without_key(plan)


def _failing_frames(plan: PairPlan) -> int:
    """So many frames may fail before the block is dropped, rarer than the agreed abort rate.

    The least k with P(more than k fail) <= abort_rate / 2, for independent failures.
    """
    n_frames = -(-plan.settings.n_key // plan.reconciliation.frame_bits)
    return quantile(n_frames, FRAME_FAILURE, plan.policy.abort_rate / 2)
