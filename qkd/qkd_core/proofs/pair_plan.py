"""The plan of a block of entangled pairs, by `proofs.bbm92`: thresholds and length.

The length is a pure function of the plan, as in `proofs.plan`. A block lasts a fixed time, so its
counts are random: the plan names the least of them.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from qkd_core.errors import PlanRefused
from qkd_core.proofs import bbm92
from qkd_core.proofs.binomial import quantile
from qkd_core.proofs.correctness import correctness_cost_bits
from qkd_core.proofs.expectation import KEEP, KEEP_CLICKS_MIN, limits
from qkd_core.proofs.terms import (
    QBER_MAX,
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
from qkd_core.types.blocks import PairTallies
from qkd_core.types.ids import Provenance
from qkd_core.types.plans import PairModel, PairPlan, PairSettings
from qkd_core.types.reconciliation import Method

# Probability that a frame fails beyond what `disclosed_max` expects; it is announced whole. Of
# 32,000 frames of 65536 bits that each variant of Cascade corrected, at 0.5 to 11 %, none failed:
# 1e-4 at most, with a confidence of 95 %. Of LDPC codes' frames, 3 of 10,000 did at 2 to 11 %; at
# lower rates more do, as expected there.
FRAME_FAILURE = {Method.CASCADE: 2e-4, Method.LDPC: 2e-3}
DOUBT = 1.5  # a key that is not corrected raises its error rate by so much
COUNT_MAX = 1 << 30  # of coincidences: no plan needs more, and memory is for the peer to ask


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRequest(BlockRequest):
    """What one block of pairs is planned from."""

    model: PairModel


def plan_pairs(request: PairRequest) -> PairPlan:
    """Plan one block. Raises PlanRefused when no key would be left after the pool's segments."""
    plan = drafted_pairs(request)
    plan = replace(plan, n_secret=n_secret_allowed(plan))
    _refuse_longer_hash(plan)
    refuse_without_key(plan)
    return plan


def drafted_pairs(request: PairRequest) -> PairPlan:
    """The plan with its thresholds and its leak budget, and no secret bits yet.

    Raises PlanRefused where no coincidences or too many errors are expected.
    """
    terms, model = request.terms, request.model
    settings = terms.settings
    if not isinstance(settings, PairSettings):
        raise PlanRefused("the terms are not for entangled pairs")
    abort_rate = terms.policy.abort_rate
    key_count = limits(settings.link_s * model.key_rate_hz, abort_rate)
    n_test = settings.link_s * model.test_rate_hz
    qber = qber_expected(model)
    test_count_min = limits(n_test, abort_rate).low
    if min(key_count.low, test_count_min) < 1:
        raise PlanRefused("the link is expected to give no coincidences in one of the bases")
    plan = PairPlan(
        block_id=request.block_id,
        link_id=terms.link_id,
        theorem=theorem_for(settings.kind, terms.theorem).name,
        settings=settings,
        policy=terms.policy,
        key_count=key_count,
        test_count_min=test_count_min,
        test_errors_max=min(
            test_count_min, bbm92.errors_accepted(round(n_test), model.test_qber, abort_rate)
        ),
        reconciliation=request.reconciliation,
        qber_expected=qber,
        leak_ec_max=0,
        n_secret=0,
        segment_pads=terms.segment_pads,
        provenance=request.provenance,
        config_digest=terms.config_digest,
    )
    leak = plan.leak_ec(disclosed_max(request, key_count.high, qber))
    leak += _failing_frames(plan) * min(plan.reconciliation.frame_bits, key_count.high)
    return replace(plan, leak_ec_max=leak)


def qber_expected(model: PairModel) -> float:
    """Of the key basis: of the key nothing is learned while none is made."""
    return max(model.key_qber, model.test_qber)


def check_pair_plan(plan: PairPlan, own: Terms, accept_provenance: Collection[Provenance]) -> None:
    """As `proofs.plan.check_plan`. Raises PlanRefused, ProvenanceRefused."""
    refuse_other_terms(plan, own, accept_provenance)
    refuse_outside("the most key bits", plan.key_count.high, 1, COUNT_MAX)
    refuse_outside("the least key bits", plan.key_count.low, 1, plan.key_count.high)
    refuse_outside("the least test bits", plan.test_count_min, 1, COUNT_MAX)
    refuse_outside("a count of errors", plan.test_errors_max, 0, plan.test_count_min)
    refuse_out_of_range(plan, plan.n_key_max)
    evaluated(plan)
    _refuse_longer_hash(plan)
    refuse_without_key(plan)


def learn_pairs(model: PairModel, tallies: PairTallies, settings: PairSettings) -> PairModel:
    """The model after a block was sifted, as `expectation.learn`: rates, and errors of the test."""
    return replace(
        model,
        key_rate_hz=_moved(model.key_rate_hz, tallies.n_key, settings.link_s),
        test_rate_hz=_moved(model.test_rate_hz, tallies.n_test, settings.link_s),
        test_qber=_moved(model.test_qber, tallies.test_errors, tallies.n_test),
    )


def learn_key_errors(model: PairModel, n_errors: int, n_bits: int) -> PairModel:
    """The model after a key was corrected, which took ``n_errors`` of ``n_bits``."""
    return replace(model, key_qber=_moved(model.key_qber, n_errors, n_bits))


def doubt_key_errors(model: PairModel) -> PairModel:
    """The model after a key was not corrected: more errors than believed is what it says."""
    return replace(model, key_qber=min(DOUBT * model.key_qber, QBER_MAX))


def _refuse_longer_hash(plan: PairPlan) -> None:
    """Raise PlanRefused where the longest key needs more of a hash than the shortest pays for."""
    eps_cor = plan.policy.eps_cor
    paid = correctness_cost_bits(eps_cor, plan.key_count.low)
    if correctness_cost_bits(eps_cor, plan.n_key_max) > paid:
        raise PlanRefused(f"eps_cor {eps_cor:g} is too small for keys of {plan.n_key_max} bits")


def _moved(believed: float, count: int, size: float) -> float:
    """A rate ``believed``, moved towards ``count`` in ``size``: see `expectation.learn`.

    The belief weighs `KEEP` blocks of what it expects, or what `KEEP_CLICKS_MIN` counts need.
    """
    weight = KEEP * size
    if believed > 0:
        weight = max(weight, KEEP_CLICKS_MIN / believed)
    return (count + believed * weight) / (size + weight) if size + weight else believed


def _failing_frames(plan: PairPlan) -> int:
    """So many frames may fail before the block is dropped, rarer than the agreed abort rate.

    The least k with P(more than k fail) <= abort_rate / 2, for independent failures.
    """
    n_frames = -(-plan.n_key_max // plan.reconciliation.frame_bits)
    failure = FRAME_FAILURE[plan.reconciliation.method]
    return quantile(n_frames, failure, plan.policy.abort_rate / 2)
