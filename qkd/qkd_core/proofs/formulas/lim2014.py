"""Finite keys with two decoys: Lim, Curty, Walenta, Xu, Zbinden, PRA 89, 022307 (2014), as printed.

To compare with published numbers; keys are made by `proofs.lim2014`, which departs from the print
where it is no bound. The key is that of the paper's X basis, the test is in Z. Beside the paper's
deviations there are those of `two_decoys.Bound`.
"""

from dataclasses import dataclass
from math import log, log2
from typing import Annotated

from qkd_core.proofs.entropy import HALF, binary_entropy, whole_bits
from qkd_core.proofs.formulas import two_decoys
from qkd_core.proofs.formulas.domain import (
    more_errors_than_events,
    no_such_light,
    probabilities_off,
    too_few_errors,
)
from qkd_core.proofs.formulas.lengths import (
    correctness_bits,
    error_correction_bits,
)
from qkd_core.proofs.formulas.source import Source
from qkd_core.proofs.formulas.stated import (
    AT_LEAST_1,
    COUNT,
    EPSILON,
    MEAN,
    PROBABILITY,
    Named,
    Triple,
)
from qkd_core.proofs.formulas.two_decoys import Bound
from qkd_core.proofs.fung import fung_gamma

EPSILON_PARTS = 21  # of eps_sec, all equal: Appendix B, Eq. (B4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Counts of both bases for each intensity, errors of the test, and all errors of the key.

    ``clip_counts``: no expected count is taken below 0, which gives a little more key. With the
    asymptotic ``bound`` neither gamma nor the cost of the epsilons is taken off.
    """

    intensities: Annotated[Triple, Named("mu"), MEAN]
    probabilities: Annotated[Triple, Named("p"), PROBABILITY]
    key_counts: Annotated[Triple, Named("nX"), COUNT]
    test_counts: Annotated[Triple, Named("nZ"), COUNT]
    test_errors: Annotated[Triple, Named("mZ"), COUNT]
    key_errors: Annotated[float, Named("mX_tot"), COUNT]
    eps_sec: Annotated[float, EPSILON]
    eps_cor: Annotated[float, EPSILON]
    bound: Bound = Bound.HOEFFDING
    clip_counts: bool = False
    f: Annotated[float, AT_LEAST_1] = 1.16

    @property
    def source(self) -> Source:
        return Source(self.intensities, self.probabilities)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Every intermediate of Eq. (1)."""

    tau_0: Annotated[float, Named("tau0")]
    tau_1: Annotated[float, Named("tau1")]
    s_key_0: Annotated[float, Named("s_X0")]
    s_key_1: Annotated[float, Named("s_X1")]
    s_test_0: Annotated[float, Named("s_Z0")]
    s_test_1: Annotated[float, Named("s_Z1")]
    v_test_1: Annotated[float, Named("v_Z1")]
    ratio: float
    gamma: float
    phi: Annotated[float, Named("phi_X")]
    qber: Annotated[float, Named("qber_X")]
    leak_ec: Annotated[float, Named("lambda_EC")]
    penalty: float
    length: Annotated[float, Named("ell_real")]
    n_secret: Annotated[int, Named("ell")]


def bounds(inputs: Inputs) -> Bounds:
    """Evaluate Eqs (1) to (5); phi at most 1/2, single-photon errors at most all errors."""
    source, eps = inputs.source, inputs.eps_sec / EPSILON_PARTS
    deviations = two_decoys.Deviations(inputs.bound, -log(eps), inputs.clip_counts)
    s_key_0, s_key_1 = two_decoys.events(source, deviations, inputs.key_counts)
    s_test_0, s_test_1 = two_decoys.events(source, deviations, inputs.test_counts)
    v_1 = two_decoys.single_photon_errors_max(source, deviations, inputs.test_errors)
    ratio = min(HALF, v_1 / s_test_1) if s_test_1 > 0 else HALF
    asymptotic = inputs.bound is Bound.ASYMPTOTIC
    gamma = 0.0 if asymptotic else fung_gamma(eps, ratio, s_test_1, s_key_1)
    phi = min(HALF, ratio + gamma)
    n_key = sum(inputs.key_counts)
    leak_ec = error_correction_bits(n_key, inputs.key_errors, inputs.f)
    penalty = 0.0 if asymptotic else -6 * log2(eps) + correctness_bits(inputs.eps_cor)
    length = s_key_0 + s_key_1 * (1 - binary_entropy(phi)) - leak_ec - penalty
    return Bounds(
        tau_0=source.photon_probability(0),
        tau_1=source.photon_probability(1),
        s_key_0=s_key_0,
        s_key_1=s_key_1,
        s_test_0=s_test_0,
        s_test_1=s_test_1,
        v_test_1=v_1,
        ratio=ratio,
        gamma=gamma,
        phi=phi,
        qber=inputs.key_errors / n_key if n_key > 0 else 0.0,
        leak_ec=leak_ec,
        penalty=penalty,
        length=length,
        n_secret=whole_bits(length, phi),
    )


def undefined(inputs: Inputs) -> list[str]:
    """Why nothing can be evaluated, one line each."""
    mu1, mu2, mu3 = inputs.intensities
    lines = probabilities_off(inputs.probabilities)
    if not (mu1 > mu2 + mu3 and mu2 > mu3):
        told = f"mu is {mu1:g}, {mu2:g}, {mu3:g}"
        lines.append(f"{told}, allowed are mu1 > mu2 + mu3 and mu2 > mu3")
    return [
        *lines,
        *more_errors_than_events("mZ", inputs.test_counts, inputs.test_errors),
        *more_errors_than_events("mX_tot", [sum(inputs.key_counts)], [inputs.key_errors]),
    ]


def unproved(inputs: Inputs, out: Bounds) -> list[str]:
    """Why the length is that of the formula, and yet of no theorem, one line each."""
    lines = [
        *no_such_light("nX", inputs.key_counts, out.s_key_0 + out.s_key_1),
        *no_such_light("nZ", inputs.test_counts, out.s_test_0 + out.s_test_1),
    ]
    if inputs.bound is Bound.ASYMPTOTIC:
        return [*lines, "bound is asymptotic, allowed are those that let expected counts deviate"]
    return lines + too_few_errors(out.v_test_1)
