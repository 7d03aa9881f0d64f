"""What any plan is made from, and what any plan is checked for."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import ceil, sqrt

from qkd_core.errors import PlanRefused, ProvenanceRefused
from qkd_core.proofs.entropy import binary_entropy
from qkd_core.proofs.expectation import limits
from qkd_core.proofs.theorem import SECRET_BITS_STEP
from qkd_core.proofs.theorems import theorem_for, theorem_of
from qkd_core.types.evaluation import Evaluation
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.keys import BlockLayout
from qkd_core.types.plans import BlockPlan, SecurityPolicy
from qkd_core.types.reconciliation import Disclosed, Reconciliation
from qkd_core.types.vendor import Agreed

LEAK_SPREAD = 5.0  # what is added to the expected leak of n bits, times sqrt(n) h(qber)
QBER_MAX = 0.25  # nothing can be planned beyond
DISCLOSED_MAX = 4  # bits for each bit of key: beyond, a plan makes no sense
FRAME_BITS_MAX = 1 << 20

DisclosedExpected = Callable[[int, float, Reconciliation], Disclosed]
"""About what error correction announces for so many bits with such an error rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the two sites have to agree on, each from its own configuration.

    ``theorem``: by its name; None for the default of such settings, see `proofs.theorems`.
    """

    link_id: LinkId
    settings: Agreed
    policy: SecurityPolicy
    segment_pads: int
    config_digest: str
    theorem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRequest:
    """What one block is planned for."""

    terms: Terms
    block_id: BlockId
    provenance: Provenance
    reconciliation: Reconciliation
    disclosed_expected: DisclosedExpected


def disclosed_max(request: BlockRequest, n_bits: int, qber: float) -> Disclosed:
    """What error correction may announce for a key of ``n_bits``.

    Its error rate is ``qber`` in the mean; how far a block may be off, the agreed abort rate
    says. Raises PlanRefused.
    """
    abort_rate = request.terms.policy.abort_rate
    highest = limits(n_bits * qber, abort_rate).high / max(n_bits, 1)
    if highest > QBER_MAX:
        raise PlanRefused(f"the error rate may reach {highest:.3g}, the limit is {QBER_MAX:g}")
    expected = request.disclosed_expected(n_bits, highest, request.reconciliation)
    spread = ceil(LEAK_SPREAD * sqrt(n_bits) * binary_entropy(highest))
    errors_too = spread if expected.about_errors >= expected.about_key else 0
    return expected + Disclosed(about_key=spread, about_errors=errors_too)


def refuse_other_terms(
    plan: BlockPlan, own: Terms, accept_provenance: Collection[Provenance]
) -> None:
    """Raise ProvenanceRefused or PlanRefused unless ``plan`` is under this site's terms."""
    if plan.provenance not in accept_provenance:
        raise ProvenanceRefused(f"provenance {plan.provenance} is not accepted here")
    for name in ("link_id", "settings", "policy", "segment_pads", "config_digest"):
        if getattr(plan, name) != getattr(own, name):
            raise PlanRefused(f"the peer plans with another {name} than this site")
    theorem = theorem_for(own.settings.kind, own.theorem).name
    if plan.theorem != theorem:
        raise PlanRefused(f"the peer plans with the theorem {plan.theorem[:40]!r}, not {theorem!r}")


def refuse_out_of_range(plan: BlockPlan, n_key_max: int) -> None:
    """Raise PlanRefused for numbers that no honest plan has."""
    refuse_outside("leak_ec_max", plan.leak_ec_max, 0, DISCLOSED_MAX * n_key_max)
    refuse_outside("n_secret", plan.n_secret, 1, n_key_max)
    refuse_outside("frame_bits", plan.reconciliation.frame_bits, 1, FRAME_BITS_MAX)
    if not 0 <= plan.qber_expected <= QBER_MAX:
        raise PlanRefused(f"qber_expected {plan.qber_expected:g}, allowed are 0 to {QBER_MAX:g}")
    if plan.n_secret % SECRET_BITS_STEP:
        raise PlanRefused(f"n_secret {plan.n_secret} is not a multiple of {SECRET_BITS_STEP}")


def refuse_outside(what: str, value: int, low: int, high: int) -> None:
    """Raise PlanRefused unless ``value`` is an integer from ``low`` to ``high``."""
    if type(value) is not int or not low <= value <= high:
        raise PlanRefused(f"{what} is {value!r}, allowed are {low} to {high!r}")


def n_secret_allowed(plan: BlockPlan) -> int:
    """The secret bits that the plan's own thresholds allow by its theorem.

    ``plan.n_secret`` is not read. Raises PlanRefused outside the theorem's domain.
    """
    return theorem_of(plan.theorem).evaluate(plan).n_secret


def evaluated(plan: BlockPlan) -> Evaluation:
    """What the theorem of ``plan`` makes of it.

    Raises PlanRefused when it claims more secret bits than its thresholds give, for a theorem
    that makes no keys, and outside the theorem's domain.
    """
    found = theorem_of(plan.theorem).evaluate(plan)
    if plan.n_secret > found.n_secret:
        raise PlanRefused(
            f"n_secret {plan.n_secret}, the plan's own thresholds give {found.n_secret}"
        )
    return found


def refuse_without_key(plan: BlockPlan) -> None:
    """Raise PlanRefused when the pool's segments would take all secret bits."""
    layout = BlockLayout(n_secret=plan.n_secret, segment_pads=plan.segment_pads)
    if layout.stored_bytes < 1:
        raise PlanRefused(
            f"the expected counts give {plan.n_secret} secret bits, and"
            f" {16 * layout.segment_bytes} go to authentication: no key"
        )
