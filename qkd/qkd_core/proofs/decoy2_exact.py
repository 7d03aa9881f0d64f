"""Finite-key decoy BB84 with two decoys, each statistical step by exact tails.

The structure, the budget of 21 equal parts of eps_sec and the length are those of Lim, Curty,
Walenta, Xu, Zbinden, PRA 89 022307 (2014), Eqs (1) to (4); see `proofs.lim2014` for its use with
accepted intervals, which is the same here. What differs:

- *Expected counts.* Given the photon numbers of the detected pulses, the intensities of the
  pulses are independent of each other: a pulse with m photons was of intensity k with probability
  p_k e^-k k^m / (m! tau_m). So n_k is a sum of independent, unequal trials, one for each detected
  pulse of the basis, of which an accepted block has at most N, the sum of the high ends. The mean
  of n_k is bounded by `proofs.clopper_pearson`, with eps_sec / 21 for each of the ten bounds that
  s_0 and s_1 take in two bases. Hoeffding's inequality, in the paper, knows the total only and
  charges the near vacuum for the fluctuation of the signal.
- *Errors of the test.* The same with the erroneous pulses, two bounds.
- *Phase errors.* The exact bound for sampling without replacement alone, which may fail with
  probability (eps_sec / 21)^2, since a smoothing of eps_sec / 21 is a purified distance
  (Tomamichel et al., Nat. Commun. 3:634, supplement). There is no gamma.
- v_1 is not above all errors of the test, s_0 + s_1 not above all events, phi not above 1/2,
  where there is no key; expected counts are not below 0.

Rounding is outward up to phi; a bit is taken off for the rest, see `entropy.ROUNDING_BITS`.
"""

from dataclasses import dataclass
from math import ceil, floor, log, log2

from qkd_core.proofs.clopper_pearson import mean_at_least, mean_at_most
from qkd_core.proofs.correctness import correctness_cost_bits
from qkd_core.proofs.entropy import HALF, ROUNDING_BITS, binary_entropy, whole_bits
from qkd_core.proofs.epsilon_parts import equal_part
from qkd_core.proofs.sampling import errors_outside_max
from qkd_core.proofs.two_decoys import (
    EPSILON_PARTS,
    Intervals,
    Light,
    Means,
    Premises,
    events,
    single_photon_errors,
)

THEOREM = "decoy2-exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Every intermediate of the length.

    s_key_0, s_key_1, s_test_0, s_test_1  vacuum and single-photon events, at least: Eqs (2), (3)
    v_test_1      single-photon errors in the test basis, at most: Eq. (4)
    phase_errors_max  of floor(s_key_1) single-photon events in the key basis
    phi           phase_errors_max / floor(s_key_1), at most 1/2
    secrecy_cost, correctness_cost  the last two terms of Eq. (1), in bits
    n_secret      the length: Eq. (1)
    """

    s_key_0: float
    s_key_1: float
    s_test_0: float
    s_test_1: float
    v_test_1: float
    phase_errors_max: int
    phi: float
    secrecy_cost: float
    correctness_cost: float
    length: float
    n_secret: int


def bounds(premises: Premises) -> Bounds:
    """Evaluate the length. Source: Lim et al. 2014, Eqs (1) to (4), with exact tails."""
    light, eps_1 = Light.of(premises), equal_part(premises.eps_sec, EPSILON_PARTS)
    s_key_0, s_key_1 = events(light, premises.key_counts, _means(premises.key_counts, eps_1))
    s_test_0, s_test_1 = events(light, premises.test_counts, _means(premises.test_counts, eps_1))
    errors = premises.test_errors
    v_test_1 = single_photon_errors(light, errors, _means(errors, eps_1))
    n_single, n_sampled = floor(s_key_1), floor(s_test_1)
    phase_errors_max = n_single
    if n_single > 0 and v_test_1 < n_sampled:
        phase_errors_max = errors_outside_max(ceil(v_test_1), n_sampled, n_single, 2 * log(eps_1))
    phi = min(HALF, phase_errors_max / n_single) if n_single else HALF
    secrecy_cost = -6 * log2(eps_1)
    n_bits_max = sum(count.high for count in premises.key_counts)
    correctness_cost = correctness_cost_bits(premises.eps_cor, n_bits_max)
    length = s_key_0 + floor(s_key_1) * (1 - binary_entropy(phi)) - premises.leak_ec
    length -= secrecy_cost + correctness_cost + ROUNDING_BITS
    return Bounds(
        s_key_0=s_key_0,
        s_key_1=s_key_1,
        s_test_0=s_test_0,
        s_test_1=s_test_1,
        v_test_1=v_test_1,
        phase_errors_max=phase_errors_max,
        phi=phi,
        secrecy_cost=secrecy_cost,
        correctness_cost=correctness_cost,
        length=length,
        n_secret=whole_bits(length, phi),
    )


def _means(counts: Intervals, eps: float) -> Means:
    """The expected counts of one basis, or of its errors, each but for ``eps``."""
    total = sum(count.high for count in counts)
    low_1, low_2, low_3 = (mean_at_least(count.low, total, eps) for count in counts)
    high_1, high_2, high_3 = (mean_at_most(count.high, total, eps) for count in counts)
    return Means(least=(low_1, low_2, low_3), most=(high_1, high_2, high_3))
