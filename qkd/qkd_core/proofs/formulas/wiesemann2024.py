"""Finite keys with one decoy: Wiesemann, Krause, Tupkary, Rusca, Walenta, Luetkenhaus (2024).

arXiv:2405.16578, Quantum 10, 2037 (2026). The key is that of the paper's X basis, the test is in Z.
Serfling's inequality bounds the phase errors; the length counts vacuum events only on demand.

Confirmed: the authors' public program (jankhg/Quantum-key-distribution-secure-key-rate-simulation-
1-decoy-BB84, commits f9d89e8 and 101ad0d) evaluates just this, and gives the same lengths. Not
confirmed: that it is the theorem of the paper, whose text was not at hand. The program's own
documentation still has another cost of secrecy, 6 log2(19 / eps_sec), and it marks for review
that the better of two bounds on the vacuum events is taken, one from the errors of each intensity.
So it is here, in each basis and without a choice, for the program's lengths; nothing shows that the
15 parts of eps_sec pay for both. So: to compare, not for keys.
"""

from dataclasses import dataclass
from math import log2, sqrt
from typing import Annotated

from qkd_core.proofs.entropy import HALF, binary_entropy, whole_bits
from qkd_core.proofs.formulas import one_decoy
from qkd_core.proofs.formulas.domain import more_errors_than_events, no_such_light
from qkd_core.proofs.formulas.lengths import correctness_bits, error_correction_bits
from qkd_core.proofs.formulas.source import Source
from qkd_core.proofs.formulas.stated import (
    AT_LEAST_1,
    COUNT,
    EPSILON,
    MEAN,
    PROBABILITY,
    Named,
    Pair,
)

EPSILON_PARTS = 15  # of eps_sec, all equal


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Counts and errors of both bases for each intensity."""

    intensities: Annotated[Pair, Named("mu"), MEAN]
    probabilities: Annotated[Pair, Named("p"), PROBABILITY]
    key_counts: Annotated[Pair, Named("nX"), COUNT]
    test_counts: Annotated[Pair, Named("nZ"), COUNT]
    key_errors: Annotated[Pair, Named("mX"), COUNT]
    test_errors: Annotated[Pair, Named("mZ"), COUNT]
    eps_sec: Annotated[float, EPSILON]
    eps_cor: Annotated[float, EPSILON]
    with_vacuum: bool = False
    f: Annotated[float, AT_LEAST_1] = 1.16

    @property
    def source(self) -> Source:
        return Source(self.intensities, self.probabilities)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Every intermediate of the length."""

    s_key_0_min: Annotated[float, Named("s_X0_l")]
    s_key_0_max: Annotated[float, Named("s_X0_u")]
    s_key_1_min: Annotated[float, Named("s_X1_l")]
    s_test_1_min: Annotated[float, Named("s_Z1_l")]
    v_test_1_max: Annotated[float, Named("v_Z1_u")]
    ratio: float
    gamma: float
    phi: Annotated[float, Named("phi_X")]
    leak_ec: Annotated[float, Named("lambda_EC")]
    penalty: float
    length: Annotated[float, Named("ell_real")]
    n_secret: Annotated[int, Named("ell")]


def bounds(inputs: Inputs) -> Bounds:
    """Evaluate the length and all that it takes; expected counts lie between 0 and all counts."""
    source = inputs.source
    deviations = one_decoy.Deviations.of_parts(EPSILON_PARTS, inputs.eps_sec, clipped=True)
    key_basis = one_decoy.Basis(inputs.key_counts, inputs.key_errors)
    test_basis = one_decoy.Basis(inputs.test_counts, inputs.test_errors)
    key = one_decoy.events(source, deviations, key_basis, None)
    test = one_decoy.events(source, deviations, test_basis, None)
    v_1 = one_decoy.single_photon_errors_max(source, deviations, inputs.test_errors)
    ratio = min(HALF, v_1 / test.s_1_min) if test.s_1_min > 0 else HALF
    gamma = _serfling(deviations.log_inverse_eps, test.s_1_min, key.s_1_min)
    phi = min(HALF, ratio + gamma)
    leak_ec = error_correction_bits(sum(inputs.key_counts), sum(inputs.key_errors), inputs.f)
    secrecy_cost = 4 * (log2(EPSILON_PARTS) - log2(inputs.eps_sec) - 1 / 4)
    penalty = secrecy_cost + correctness_bits(inputs.eps_cor)
    vacuum = key.s_0_min if inputs.with_vacuum else 0.0
    length = vacuum + key.s_1_min * (1 - binary_entropy(phi)) - leak_ec - penalty
    return Bounds(
        s_key_0_min=key.s_0_min,
        s_key_0_max=key.s_0_max,
        s_key_1_min=key.s_1_min,
        s_test_1_min=test.s_1_min,
        v_test_1_max=v_1,
        ratio=ratio,
        gamma=gamma,
        phi=phi,
        leak_ec=leak_ec,
        penalty=penalty,
        length=length,
        n_secret=whole_bits(length, phi),
    )


def _serfling(log_inverse_eps: float, sample: float, rest: float) -> float:
    """How much the error rate of ``rest`` events may exceed that of ``sample``; 0 without them."""
    if min(sample, rest) <= 0:
        return 0.0
    return sqrt((1 / sample + 1 / rest) * (sample + 1) / sample * log_inverse_eps)


def undefined(inputs: Inputs) -> list[str]:
    """Why nothing can be evaluated, one line each."""
    return [
        *one_decoy.undefined(inputs.source),
        *more_errors_than_events("mX", inputs.key_counts, inputs.key_errors),
        *more_errors_than_events("mZ", inputs.test_counts, inputs.test_errors),
    ]


def unproved(inputs: Inputs, out: Bounds) -> list[str]:
    """Why the length is that of the formula, and yet of no theorem, one line each."""
    return [
        *no_such_light("nX", inputs.key_counts, out.s_key_0_min + out.s_key_1_min),
        *no_such_light("nZ", inputs.test_counts, out.s_test_1_min),
    ]
