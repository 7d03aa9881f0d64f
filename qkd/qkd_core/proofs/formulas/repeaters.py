"""Entangled pairs over several hops: swapping and purification of Bell-diagonal states."""

from dataclasses import dataclass
from typing import Annotated

from qkd_core.proofs.formulas.stated import RATE, Domain, Named, Pair, Range

FIDELITY = Domain(low=1 / 4, high=1)
SUM_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class WernerChain:
    """Equal hops, each a Werner state of fidelity ``F``, swapped without loss of quality."""

    fidelity: Annotated[float, Named("F"), FIDELITY]
    hops: Annotated[int, Range(1, 1_000_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    fidelity: Annotated[float, Named("F")]


def werner_chain(inputs: WernerChain) -> Fidelity:
    """(1 + 3 p^hops) / 4 with p = (4 F - 1) / 3: swapping multiplies the Werner parameters."""
    parameter = (4 * inputs.fidelity - 1) / 3
    return Fidelity(fidelity=(1 + 3 * parameter**inputs.hops) / 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bbpssw:
    """Two Werner states of fidelity ``F``."""

    fidelity: Annotated[float, Named("F"), FIDELITY]


@dataclass(frozen=True, slots=True, kw_only=True)
class Purified:
    """The fidelity of the pair that is kept, and how often one is."""

    fidelity_and_success: Annotated[Pair, Named("F_psucc")]


def bbpssw(inputs: Bbpssw) -> Purified:
    """One round of Bennett, Brassard, Popescu, Schumacher, Smolin, Wootters, PRL 76, 722 (1996)."""
    f = inputs.fidelity
    g = (1 - f) / 3
    success = f**2 + 2 * f * g + 5 * g**2
    return Purified(fidelity_and_success=((f**2 + g**2) / success, success))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dejmps:
    """Two equal Bell-diagonal states: weights of Phi+, Psi-, Psi+ and Phi-."""

    phi_plus: Annotated[float, Named("A"), RATE]
    psi_minus: Annotated[float, Named("B"), RATE]
    psi_plus: Annotated[float, Named("C"), RATE]
    phi_minus: Annotated[float, Named("D"), RATE]


@dataclass(frozen=True, slots=True, kw_only=True)
class DejmpsPurified(Dejmps):
    """The weights of the pair that is kept, and how often one is."""

    success: Annotated[float, Named("p_s")]


def dejmps(inputs: Dejmps) -> DejmpsPurified:
    """One round of Deutsch, Ekert, Jozsa, Macchiavello, Popescu, Sanpera, PRL 77, 2818 (1996)."""
    a, b, c, d = inputs.phi_plus, inputs.psi_minus, inputs.psi_plus, inputs.phi_minus
    success = (a + b) ** 2 + (c + d) ** 2
    return DejmpsPurified(
        phi_plus=(a**2 + b**2) / success,
        psi_minus=2 * c * d / success,
        psi_plus=(c**2 + d**2) / success,
        phi_minus=2 * a * b / success,
        success=success,
    )


def dejmps_undefined(inputs: Dejmps) -> list[str]:
    total = inputs.phi_plus + inputs.psi_minus + inputs.psi_plus + inputs.phi_minus
    if abs(total - 1) <= SUM_SLACK:
        return []
    return [f"the sum of A, B, C and D is {total:.9g}, allowed is 1"]
