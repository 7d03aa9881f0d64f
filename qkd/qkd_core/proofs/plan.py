"""The plan of a block of decoy pulses: thresholds, leak budget and secret length, fixed before it.

The length is a pure function of the plan. The peer of the one who plans derives it again, from
the thresholds in the plan, and refuses a plan that claims more.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from qkd_core.errors import PlanRefused
from qkd_core.proofs.expectation import Expected, expected, limits
from qkd_core.proofs.premises import Intervals
from qkd_core.proofs.terms import (
    BlockRequest,
    Terms,
    disclosed_max,
    evaluated,
    n_secret_allowed,
    refuse_other_terms,
    refuse_out_of_range,
    refuse_outside,
    refuse_without_key,
)
from qkd_core.proofs.theorems import theorem_for
from qkd_core.types.ids import Provenance
from qkd_core.types.plans import Counts, DecoyPlan, DecoySettings, LinkModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest(BlockRequest):
    """What one block of decoy pulses is planned from."""

    model: LinkModel


def plan_block(request: PlanRequest) -> DecoyPlan:
    """Plan one block for its expected counts and the agreed abort rate.

    Raises PlanRefused when no key would be left, or no more than the pool's segments take.
    """
    plan = drafted(request)
    plan = replace(plan, n_secret=n_secret_allowed(plan))
    refuse_without_key(plan)
    return plan


def drafted(request: PlanRequest) -> DecoyPlan:
    """The plan with its thresholds and its leak budget, and no secret bits yet.

    Raises PlanRefused when the error rate is beyond what can be planned.
    """
    terms = request.terms
    if not isinstance(terms.settings, DecoySettings):
        raise PlanRefused("the terms are not for decoy pulses")
    mean = expected(terms.settings, request.model)
    abort_rate = terms.policy.abort_rate
    plan = DecoyPlan(
        block_id=request.block_id,
        link_id=terms.link_id,
        theorem=theorem_for(terms.settings.kind, terms.theorem).name,
        settings=terms.settings,
        policy=terms.policy,
        key_counts=_intervals(mean.key, abort_rate, mean.spread),
        test_counts=_intervals(mean.test, abort_rate, mean.spread),
        test_errors_max=_errors_max(mean, abort_rate),
        reconciliation=request.reconciliation,
        qber_expected=mean.qber,
        leak_ec_max=0,
        n_secret=0,
        segment_pads=terms.segment_pads,
        provenance=request.provenance,
        config_digest=terms.config_digest,
    )
    leak = plan.leak_ec(disclosed_max(request, plan.n_key_max, mean.qber))
    return replace(plan, leak_ec_max=leak)


def check_plan(plan: DecoyPlan, own: Terms, accept_provenance: Collection[Provenance]) -> None:
    """Refuse a peer's plan unless it is what this site would stand for.

    Raises ProvenanceRefused, and PlanRefused: other terms than its own, numbers out of range, or
    more secret bits than the thresholds give.
    """
    refuse_other_terms(plan, own, accept_provenance)
    if plan.reconciliation.roles_swap:
        raise PlanRefused("the roles of error correction cannot be exchanged under this theorem")
    _refuse_counts_out_of_range(plan)
    refuse_out_of_range(plan, plan.settings.n_pulses)
    evaluated(plan)
    refuse_without_key(plan)


def _refuse_counts_out_of_range(plan: DecoyPlan) -> None:
    n_pulses = plan.settings.n_pulses
    for interval in (*plan.key_counts, *plan.test_counts):
        refuse_outside("a count", interval.low, 0, interval.high)
        refuse_outside("a count", interval.high, 0, n_pulses)
    for errors in plan.test_errors_max:
        refuse_outside("a count of errors", errors, 0, n_pulses)


def _intervals(means: tuple[float, ...], abort_rate: float, spread: float) -> Intervals:
    return tuple(limits(mean, abort_rate, spread) for mean in means)


def _errors_max(mean: Expected, abort_rate: float) -> Counts:
    return tuple(limits(errors, abort_rate, mean.spread).high for errors in mean.test_errors)
