"""The plan of a block: thresholds, leak budget and secret length, fixed before its first pulse.

The length is a pure function of the plan. The peer of the one who plans derives it again, from
the thresholds in the plan, and refuses a plan that claims more.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import ceil, sqrt

from qkd_core.errors import PlanRefused, ProvenanceRefused
from qkd_core.proofs import lim2014
from qkd_core.proofs.expectation import Expected, expected, limits
from qkd_core.types.blocks import (
    BlockPlan,
    Counts,
    DecoySettings,
    Interval,
    LinkModel,
    SecurityPolicy,
)
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.keys import BlockLayout

SECRET_BITS_STEP = 64  # the length is a multiple: whole words and bytes
DIRECTIONS = 2  # of Cascade's parities, see `photons.reconciliation.cascade`
EFFICIENCY = 1.06  # Cascade's parities in one direction, over n h(qber), at large n
EFFICIENCY_SPREAD = 5.0  # what is added for n bits, times sqrt(n)
QBER_MAX = 0.25  # nothing can be planned beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the two sites have to agree on, each from its own configuration."""

    link_id: LinkId
    settings: DecoySettings
    policy: SecurityPolicy
    segment_pads: int
    config_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What one block is planned from."""

    terms: Terms
    model: LinkModel
    block_id: BlockId
    provenance: Provenance


def plan_block(request: PlanRequest) -> BlockPlan:
    """Plan one block for its expected counts and the agreed abort rate.

    Raises PlanRefused when no key would be left, or no more than the pool's segments take.
    """
    terms = request.terms
    mean = expected(terms.settings, request.model)
    abort_rate = terms.policy.abort_rate
    key_counts = _intervals(mean.key, abort_rate)
    plan = BlockPlan(
        block_id=request.block_id,
        link_id=terms.link_id,
        theorem=lim2014.THEOREM,
        settings=terms.settings,
        policy=terms.policy,
        key_counts=key_counts,
        test_counts=_intervals(mean.test, abort_rate),
        test_errors_max=_errors_max(mean, abort_rate),
        qber_expected=mean.qber,
        leak_ec_max=_leak_ec_max(mean, key_counts, abort_rate),
        n_secret=0,
        segment_pads=terms.segment_pads,
        provenance=request.provenance,
        config_digest=terms.config_digest,
    )
    plan = replace(plan, n_secret=n_secret_allowed(plan))
    _refuse_without_key(plan)
    return plan


def n_secret_allowed(plan: BlockPlan) -> int:
    """The secret bits that the plan's own thresholds allow; `plan.n_secret` is not read."""
    errors_0, errors_1, errors_2 = plan.test_errors_max
    premises = lim2014.Premises(
        intensities=plan.settings.intensities,
        probabilities=plan.settings.probabilities,
        key_counts=plan.key_counts,
        test_counts=plan.test_counts,
        test_errors=(
            Interval(low=0, high=errors_0),
            Interval(low=0, high=errors_1),
            Interval(low=0, high=errors_2),
        ),
        leak_ec=plan.leak_ec_max,
        eps_sec=plan.policy.eps_sec,
        eps_cor=plan.policy.eps_cor,
    )
    n_secret = lim2014.bounds(premises).n_secret
    return n_secret - n_secret % SECRET_BITS_STEP


def check_plan(plan: BlockPlan, own: Terms, accept_provenance: Collection[Provenance]) -> None:
    """Refuse a peer's plan unless it is what this site would stand for.

    Raises ProvenanceRefused, and PlanRefused: other terms than its own, numbers out of range, or
    more secret bits than the thresholds give.
    """
    if plan.provenance not in accept_provenance:
        raise ProvenanceRefused(f"provenance {plan.provenance} is not accepted here")
    for name in ("link_id", "settings", "policy", "segment_pads", "config_digest"):
        if getattr(plan, name) != getattr(own, name):
            raise PlanRefused(f"the peer plans with another {name} than this site")
    if plan.theorem != lim2014.THEOREM:
        raise PlanRefused(f"theorem {plan.theorem!r} is unknown, {lim2014.THEOREM!r} is not")
    _refuse_out_of_range(plan)
    allowed = n_secret_allowed(plan)
    if plan.n_secret > allowed:
        raise PlanRefused(f"n_secret {plan.n_secret}, the plan's own thresholds give {allowed}")
    _refuse_without_key(plan)


def _refuse_out_of_range(plan: BlockPlan) -> None:
    n_pulses = plan.settings.n_pulses
    for interval in (*plan.key_counts, *plan.test_counts):
        _refuse_outside("a count", interval.low, 0, interval.high)
        _refuse_outside("a count", interval.high, 0, n_pulses)
    for errors in plan.test_errors_max:
        _refuse_outside("a count of errors", errors, 0, n_pulses)
    _refuse_outside("leak_ec_max", plan.leak_ec_max, 0, DIRECTIONS * n_pulses)
    _refuse_outside("n_secret", plan.n_secret, 1, n_pulses)
    if not 0 <= plan.qber_expected <= QBER_MAX:
        raise PlanRefused(f"qber_expected {plan.qber_expected:g}, allowed are 0 to {QBER_MAX:g}")
    if plan.n_secret % SECRET_BITS_STEP:
        raise PlanRefused(f"n_secret {plan.n_secret} is not a multiple of {SECRET_BITS_STEP}")


def _refuse_outside(what: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise PlanRefused(f"{what} is {value!r}, allowed are {low} to {high!r}")


def _refuse_without_key(plan: BlockPlan) -> None:
    layout = BlockLayout(n_secret=plan.n_secret, segment_pads=plan.segment_pads)
    if layout.stored_bytes < 1:
        raise PlanRefused(
            f"the expected counts give {plan.n_secret} secret bits, and"
            f" {16 * layout.segment_bytes} go to authentication: no key"
        )


def _intervals(means: tuple[float, float, float], abort_rate: float) -> lim2014.Intervals:
    signal, decoy, vacuum = (limits(mean, abort_rate) for mean in means)
    return signal, decoy, vacuum


def _errors_max(mean: Expected, abort_rate: float) -> Counts:
    signal, decoy, vacuum = (limits(errors, abort_rate).high for errors in mean.test_errors)
    return signal, decoy, vacuum


def _leak_ec_max(mean: Expected, key_counts: lim2014.Intervals, abort_rate: float) -> int:
    """Bits that error correction may announce, both directions, for the longest accepted key.

    The efficiency is what our Cascade keeps at 0.5 to 8 %; its tests measure it.
    """
    n_bits = sum(count.high for count in key_counts)
    qber = limits(n_bits * mean.qber, abort_rate).high / max(n_bits, 1)
    if qber > QBER_MAX:
        raise PlanRefused(f"the error rate may reach {qber:.3g}, the limit is {QBER_MAX:g}")
    efficiency = EFFICIENCY + EFFICIENCY_SPREAD / sqrt(max(n_bits, 1))
    return ceil(DIRECTIONS * efficiency * n_bits * lim2014.binary_entropy(qber))
