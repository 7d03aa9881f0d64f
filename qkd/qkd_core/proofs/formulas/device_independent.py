"""Key from a violation of Bell's inequality, whatever the devices: asymptotic, ideal detectors."""

from dataclasses import dataclass
from math import sqrt
from typing import Annotated

from qkd_core.proofs.entropy import HALF, binary_entropy
from qkd_core.proofs.formulas.stated import Domain, Named

CLASSICAL = 2.0  # the largest S without entanglement
QUANTUM_SQUARED = 8.0  # the square of the largest S with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """The error rate of the key and the CHSH value, no detection left out."""

    qber: Annotated[float, Named("Q"), Domain(low=0, high=HALF)]
    chsh: Annotated[float, Named("S"), Domain(low=CLASSICAL, high=4)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Key per pair; below 0 where there is none."""

    rate: Annotated[float, Named("r")]


def di_acin2007(inputs: Violation) -> Rate:
    """1 - h(Q) - h((1 + sqrt(S^2 / 4 - 1)) / 2). Source: Acin et al., PRL 98, 230501 (2007).

    Over a lossy link with post-selection S is for monitoring only: no length may come from it.
    """
    known = (1 - sqrt(min(1.0, inputs.chsh**2 / 4 - 1))) / 2  # h is symmetric about 1/2
    return Rate(rate=1 - binary_entropy(inputs.qber) - binary_entropy(known))


def undefined(inputs: Violation) -> list[str]:
    if inputs.chsh**2 <= QUANTUM_SQUARED * (1 + 1e-12):
        return []
    return [f"S is {inputs.chsh:g}, allowed is at most 2 sqrt(2): no quantum state gives more"]
