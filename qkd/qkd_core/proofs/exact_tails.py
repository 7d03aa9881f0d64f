"""What theorems for decoy pulses take by exact tails, whatever the number of decoys.

- *Expected counts.* Given the photon numbers of the detected pulses, the intensities of the
  pulses are independent of each other: a pulse with m photons was of intensity k with probability
  p_k e^-k k^m / (m! tau_m). So n_k is a sum of independent, unequal trials, one for each detected
  pulse of the basis, of which an accepted block has at most N, the sum of the high ends. The mean
  of n_k is bounded by `proofs.clopper_pearson`. The same with the erroneous pulses of the test.
- *Phase errors.* Exact sampling without replacement alone, with the failure probability eps^2,
  since a smoothing of eps is a purified distance (Tomamichel et al., Nat. Commun. 3:634,
  supplement).
"""

from dataclasses import asdict, dataclass
from math import ceil, floor, log, log2

from qkd_core.proofs.clopper_pearson import mean_at_least, mean_at_most
from qkd_core.proofs.correctness import correctness_cost_bits
from qkd_core.proofs.entropy import HALF, ROUNDING_BITS, binary_entropy, whole_bits
from qkd_core.proofs.premises import Intervals, Means, Premises
from qkd_core.proofs.sampling import errors_outside_max


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotonNumbers:
    """What is known of the photons of a block.

    s_key_0, s_key_1, s_test_0, s_test_1  vacuum and single-photon events, at least
    v_test_1      single-photon errors in the test basis, at most
    """

    s_key_0: float
    s_key_1: float
    s_test_0: float
    s_test_1: float
    v_test_1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds(PhotonNumbers):
    """Every intermediate of the length.

    phase_errors_max  of floor(s_key_1) single-photon events in the key basis
    phi           phase_errors_max / floor(s_key_1), at most 1/2
    secrecy_cost, correctness_cost  the last two terms of Eq. (1), in bits
    n_secret      the length: Eq. (1)
    """

    phase_errors_max: int
    phi: float
    secrecy_cost: float
    correctness_cost: float
    length: float
    n_secret: int


def expected_counts(counts: Intervals, eps: float) -> Means:
    """The expected counts of one basis, or of its errors, each but for ``eps``."""
    total = sum(count.high for count in counts)
    return Means(
        least=tuple(mean_at_least(count.low, total, eps) for count in counts),
        most=tuple(mean_at_most(count.high, total, eps) for count in counts),
    )


def length(found: PhotonNumbers, premises: Premises, eps: float) -> Bounds:
    """The length, with the part ``eps`` of eps_sec for each step.

    Source: Lim et al., PRA 89 022307 (2014), Eq. (1), with whole events.
    """
    errors, phi = _phase_errors(found, eps)
    secrecy_cost = -6 * log2(eps)
    n_bits_max = sum(count.high for count in premises.key_counts)
    correctness_cost = correctness_cost_bits(premises.eps_cor, n_bits_max)
    bits = found.s_key_0 + floor(found.s_key_1) * (1 - binary_entropy(phi)) - premises.leak_ec
    bits -= secrecy_cost + correctness_cost + ROUNDING_BITS
    return Bounds(
        **asdict(found),
        phase_errors_max=errors,
        phi=phi,
        secrecy_cost=secrecy_cost,
        correctness_cost=correctness_cost,
        length=bits,
        n_secret=whole_bits(bits, phi),
    )


def _phase_errors(found: PhotonNumbers, eps: float) -> tuple[int, float]:
    """The most phase errors of whole single-photon events of the key, and their rate.

    Events and errors are rounded to the weaker side; the rate is at most 1/2.
    """
    n_single, n_sampled = floor(found.s_key_1), floor(found.s_test_1)
    most = n_single
    if n_single > 0 and found.v_test_1 < n_sampled:
        most = errors_outside_max(ceil(found.v_test_1), n_sampled, n_single, 2 * log(eps))
    return most, min(HALF, most / n_single) if n_single else HALF
