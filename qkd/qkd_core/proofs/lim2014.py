"""Finite-key decoy BB84 with two decoys: Lim, Curty, Walenta, Xu, Zbinden, PRA 89 022307 (2014).

The legacy theorem of decoy pulses, for comparison and for peers that know no other: keys are made
by `proofs.decoy2_exact` unless a site names this one. Its Eqs (2) to (4) are in
`proofs.two_decoys`.

Use. The theorem is for a fixed number of pulses and thresholds and a length that are fixed before
the first of them. Each bound is therefore evaluated at the ends of the accepted intervals that
make it weakest (low ends under a minus, high ends under a plus, high ends in all totals and for
all errors): the length holds for every outcome inside them. With equal ends it is the paper's.

Departures from the print, all towards less key:

- phi is at least the exact sampling bound, at the failure probability (eps_sec / 21)^2 that a
  smoothing of eps_sec / 21 in purified distance allows (Tomamichel et al., Nat. Commun. 3:634,
  supplement). gamma of Eq. (5) alone is no valid bound: at no observed error it is 0.
- v_1 is not above all errors of the test, s_0 + s_1 not above all events, and phi not above
  1/2, where there is no key.
- Rounding is outward up to phi; a bit is taken off for the rest, see `entropy.ROUNDING_BITS`.

One departure is towards more: a count less its deviation is not taken below 0, which holds for
every expected count. The formula as printed, for comparison with published numbers, is
`proofs.formulas.lim2014`; no key is made by it.

Erratum: the channel model of section IV has to use the system's transmittance in the error rate,
not the channel's. It does not enter here.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, log, log2, sqrt

from qkd_core.proofs.correctness import correctness_cost_bits
from qkd_core.proofs.entropy import HALF, ROUNDING_BITS, binary_entropy, whole_bits
from qkd_core.proofs.fung import fung_gamma
from qkd_core.proofs.premises import Intervals, Light, Means, Premises
from qkd_core.proofs.rounding import down, up
from qkd_core.proofs.sampling import errors_outside_max
from qkd_core.proofs.two_decoys import EPSILON_PARTS, events, single_photon_errors

THEOREM = "lim2014"
OUTWARD = 1 + 2.0**-40  # a factor that makes up for the rounding of a few operations


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Every intermediate of the length, in the order of the paper.

    s_key_0, s_key_1, s_test_0, s_test_1  vacuum and single-photon events, at least: Eqs (2), (3)
    v_test_1      single-photon errors in the test basis, at most: Eq. (4)
    ratio, gamma  v_test_1 / s_test_1, at most 1/2, and its statistical deviation: Eq. (5)
    phi_sampling  the exact sampling bound on the phase error rate
    phi           phase error rate of the single-photon events in the key basis, at most
    secrecy_cost, correctness_cost  the last two terms of Eq. (1), in bits
    n_secret      the length: Eq. (1)
    """

    tau_0: float
    tau_1: float
    s_key_0: float
    s_key_1: float
    s_test_0: float
    s_test_1: float
    v_test_1: float
    ratio: float
    gamma: float
    phi_sampling: float
    phi: float
    secrecy_cost: float
    correctness_cost: float
    length: float
    n_secret: int


def bounds(premises: Premises) -> Bounds:
    """Evaluate Eqs (1) to (5). Source: Lim et al. 2014, section II."""
    light = Light.of(premises)
    s_key_0, s_key_1 = events(light, premises.key_counts, _means(premises, premises.key_counts))
    s_test_0, s_test_1 = events(light, premises.test_counts, _means(premises, premises.test_counts))
    errors = premises.test_errors
    v_test_1 = single_photon_errors(light, errors, _means(premises, errors))
    ratio = min(HALF, v_test_1 / s_test_1) if s_test_1 > 0 else HALF
    gamma = fung_gamma(premises.eps_sec / EPSILON_PARTS, ratio, s_test_1, s_key_1)
    deviating = OUTWARD * (ratio + gamma)
    phi_sampling = _phi_sampling(premises.eps_sec, v_test_1, s_test_1, s_key_1)
    phi = min(HALF, max(deviating, phi_sampling))
    secrecy_cost = 6 * log2(EPSILON_PARTS / premises.eps_sec)
    n_bits_max = ceil(sum(count.high for count in premises.key_counts))
    correctness_cost = correctness_cost_bits(premises.eps_cor, n_bits_max)
    length = (
        s_key_0
        + floor(s_key_1) * (1 - binary_entropy(phi))
        - premises.leak_ec
        - secrecy_cost
        - correctness_cost
        - ROUNDING_BITS
    )
    return Bounds(
        tau_0=float(light.tau_0[0]),
        tau_1=float(light.tau_1[0]),
        s_key_0=s_key_0,
        s_key_1=s_key_1,
        s_test_0=s_test_0,
        s_test_1=s_test_1,
        v_test_1=v_test_1,
        ratio=ratio,
        gamma=gamma,
        phi_sampling=phi_sampling,
        phi=phi,
        secrecy_cost=secrecy_cost,
        correctness_cost=correctness_cost,
        length=length,
        n_secret=whole_bits(length, phi),
    )


def _means(premises: Premises, counts: Intervals) -> Means:
    """Expected counts by Hoeffding's inequality, which takes the total of all intensities."""
    total = sum(count.high for count in counts)
    deviation = OUTWARD * sqrt(total / 2 * log(EPSILON_PARTS / premises.eps_sec))
    exactly = Fraction(deviation)
    low_1, low_2, low_3 = (max(0.0, down(count.low - exactly)) for count in counts)
    high_1, high_2, high_3 = (up(count.high + exactly) for count in counts)
    return Means(least=(low_1, low_2, low_3), most=(high_1, high_2, high_3))


def _phi_sampling(eps_sec: float, v_test_1: float, s_test_1: float, s_key_1: float) -> float:
    """The phase error rate by exact sampling, with the failure probability of Eq. (5).

    That probability is (eps_sec / 21)^2. 1/2 where nothing was sampled.
    """
    k, n = floor(s_test_1), floor(s_key_1)
    if k < 1 or n < 1 or v_test_1 >= k:
        return HALF
    log_eps = 2 * log(eps_sec / EPSILON_PARTS)
    return errors_outside_max(ceil(v_test_1), k, n, log_eps) / n
