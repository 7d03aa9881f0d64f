"""Finite keys with one decoy: Rusca, Boaron, Gruenenfelder, Martin, Zbinden (2018).

Appl. Phys. Lett. 112, 171104, appendix A.

To compare with published numbers, not for keys: its treatment of acceptance tests has a gap
(Wiesemann et al., arXiv:2405.16578), and gamma is no bound for few errors. The key is that of the
paper's Z basis, the test is in X. All parts of eps_sec are equal, eps_sec / 19 (Eq. A24), so 19
also stands in gamma, where some transcriptions have 21.

Eq. (A16) bounds the vacuum events by the errors of one intensity, of either. By default the better
of the two is taken in each basis, as in published figures: one of them may then fail with twice
the probability that Eq. (A24) counts, so the length is the formula's and no theorem's. With
``vac_k`` the intensity is fixed beforehand, and the budget is whole. It costs: for the counts of
the vectors rus-02 and rus-07, which are the same, 3,537,504 bits become 3,033,174.
"""

from dataclasses import dataclass
from math import log2
from typing import Annotated

from qkd_core.proofs.entropy import HALF, binary_entropy, whole_bits
from qkd_core.proofs.formulas import one_decoy
from qkd_core.proofs.formulas.domain import (
    more_errors_than_events,
    no_such_light,
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
    Pair,
    Range,
)
from qkd_core.proofs.fung import fung_gamma

EPSILON_PARTS = 19  # of eps_sec, all equal: Eq. (A24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Counts and errors of both bases for each intensity.

    ``vacuum_from`` is the intensity whose errors bound the vacuum events, 0 or 1, fixed before
    the block; None takes the better one, see above.
    """

    intensities: Annotated[Pair, Named("mu"), MEAN]
    probabilities: Annotated[Pair, Named("p"), PROBABILITY]
    key_counts: Annotated[Pair, Named("nZ"), COUNT]
    test_counts: Annotated[Pair, Named("nX"), COUNT]
    key_errors: Annotated[Pair, Named("mZ"), COUNT]
    test_errors: Annotated[Pair, Named("mX"), COUNT]
    eps_sec: Annotated[float, EPSILON]
    eps_cor: Annotated[float, EPSILON]
    vacuum_from: Annotated[int | None, Named("vac_k"), Range(0, 1)] = None
    f: Annotated[float, AT_LEAST_1] = 1.16

    @property
    def source(self) -> Source:
        return Source(self.intensities, self.probabilities)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Every intermediate of the length, Eqs (A16) to (A25)."""

    tau_0: Annotated[float, Named("tau0")]
    tau_1: Annotated[float, Named("tau1")]
    s_key_0_min: Annotated[float, Named("s_Z0_l")]
    s_key_0_max: Annotated[float, Named("s_Z0_u")]
    s_key_1_min: Annotated[float, Named("s_Z1_l")]
    s_test_0_max: Annotated[float, Named("s_X0_u")]
    s_test_1_min: Annotated[float, Named("s_X1_l")]
    v_test_1_max: Annotated[float, Named("v_X1_u")]
    ratio: float
    gamma: float
    phi: Annotated[float, Named("phi_Z")]
    leak_ec: Annotated[float, Named("lambda_EC")]
    penalty: float
    length: Annotated[float, Named("ell_real")]
    n_secret: Annotated[int, Named("ell")]


def bounds(inputs: Inputs) -> Bounds:
    """Evaluate Eq. (A25) and all that it takes; phi at most 1/2, errors at most all errors."""
    source = inputs.source
    deviations = one_decoy.Deviations.of_parts(EPSILON_PARTS, inputs.eps_sec, clipped=False)
    key_basis = one_decoy.Basis(inputs.key_counts, inputs.key_errors)
    test_basis = one_decoy.Basis(inputs.test_counts, inputs.test_errors)
    key = one_decoy.events(source, deviations, key_basis, inputs.vacuum_from)
    test = one_decoy.events(source, deviations, test_basis, inputs.vacuum_from)
    v_1 = one_decoy.single_photon_errors_max(source, deviations, inputs.test_errors)
    v_1 = min(v_1, sum(inputs.test_errors))
    ratio = min(HALF, v_1 / test.s_1_min) if test.s_1_min > 0 else HALF
    gamma = fung_gamma(inputs.eps_sec / EPSILON_PARTS, ratio, test.s_1_min, key.s_1_min)
    phi = min(HALF, ratio + gamma)
    leak_ec = error_correction_bits(sum(inputs.key_counts), sum(inputs.key_errors), inputs.f)
    secrecy_cost = 6 * (log2(EPSILON_PARTS) - log2(inputs.eps_sec))
    penalty = secrecy_cost + correctness_bits(inputs.eps_cor)
    length = key.s_0_min + key.s_1_min * (1 - binary_entropy(phi)) - leak_ec - penalty
    return Bounds(
        tau_0=source.photon_probability(0),
        tau_1=source.photon_probability(1),
        s_key_0_min=key.s_0_min,
        s_key_0_max=key.s_0_max,
        s_key_1_min=key.s_1_min,
        s_test_0_max=test.s_0_max,
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


def undefined(inputs: Inputs) -> list[str]:
    """Why nothing can be evaluated, one line each."""
    return [
        *one_decoy.undefined(inputs.source),
        *more_errors_than_events("mZ", inputs.key_counts, inputs.key_errors),
        *more_errors_than_events("mX", inputs.test_counts, inputs.test_errors),
    ]


def unproved(inputs: Inputs, out: Bounds) -> list[str]:
    """Why the length is that of the formula, and yet of no theorem, one line each."""
    return [
        *no_such_light("nZ", inputs.key_counts, out.s_key_0_min + out.s_key_1_min),
        *no_such_light("nX", inputs.test_counts, out.s_test_1_min),
        *too_few_errors(out.v_test_1_max),
    ]
