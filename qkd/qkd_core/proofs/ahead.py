"""The block ahead: all that a plan is made from but what the link is expected to do.

An engine, `keyferry check` and the planner ask for plans here, so that all of them expect the
same leak of error correction.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

from qkd_core.errors import PlanRefused
from qkd_core.proofs.entropy import binary_entropy
from qkd_core.proofs.expectation import expected
from qkd_core.proofs.pair_plan import PairRequest, qber_expected
from qkd_core.proofs.plan import PlanRequest
from qkd_core.proofs.terms import DisclosedExpected, Terms
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import DecoySettings, LinkModel, PairModel, PairSettings
from qkd_core.types.reconciliation import Disclosed, Reconciliation

FIRST = BlockId(1)
QBER_LEAST = 1e-3  # so that an efficiency can be told

Correction = Callable[[int, float], Reconciliation]
"""How a block of about so many bits with such an error rate is corrected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """``disclosed_expected``: what that correction announces, about."""

    terms: Terms
    correction: Correction
    disclosed_expected: DisclosedExpected
    block_id: BlockId = FIRST
    provenance: Provenance = Provenance.DEVICE

    def of_pulses(self, model: LinkModel) -> PlanRequest:
        """Raises PlanRefused when the terms are not for decoy pulses."""
        mean = expected(pulses_of(self.terms), model)
        return PlanRequest(
            terms=self.terms,
            block_id=self.block_id,
            provenance=self.provenance,
            reconciliation=self.correction(round(sum(mean.key)), mean.qber),
            disclosed_expected=self.disclosed_expected,
            model=model,
        )

    def of_pairs(self, model: PairModel) -> PairRequest:
        """Raises PlanRefused when the terms are not for entangled pairs."""
        return PairRequest(
            terms=self.terms,
            block_id=self.block_id,
            provenance=self.provenance,
            reconciliation=self.correction(
                round(pairs_of(self.terms).link_s * model.key_rate_hz), qber_expected(model)
            ),
            disclosed_expected=self.disclosed_expected,
            model=model,
        )

    def as_efficient(self, n_bits: int, qber: float) -> "Ahead":
        """The same, with errors corrected as efficiently everywhere as such a block's.

        What a method announces takes long to work out, and hardly differs near there.
        """
        n_bits, qber = max(1, n_bits), max(qber, QBER_LEAST)
        how = self.correction(n_bits, qber)
        told, least = self.disclosed_expected(n_bits, qber, how), n_bits * binary_entropy(qber)

        def disclosed(n: int, q: float, _: Reconciliation) -> Disclosed:
            share = n * binary_entropy(q) / least
            return Disclosed(
                about_key=ceil(told.about_key * share),
                about_errors=ceil(told.about_errors * share),
            )

        return replace(self, correction=lambda *_: how, disclosed_expected=disclosed)


def pulses_of(terms: Terms) -> DecoySettings:
    """The settings. Raises PlanRefused when they are not for decoy pulses."""
    if not isinstance(terms.settings, DecoySettings):
        raise PlanRefused("the terms are not for decoy pulses")
    return terms.settings


def pairs_of(terms: Terms) -> PairSettings:
    """The settings. Raises PlanRefused when they are not for entangled pairs."""
    if not isinstance(terms.settings, PairSettings):
        raise PlanRefused("the terms are not for entangled pairs")
    return terms.settings
