"""Finite-key decoy BB84 with two decoys: Lim, Curty, Walenta, Xu, Zbinden, PRA 89 022307 (2014).

The paper takes the key from its X basis and tests in Z; here they are the key and the test basis.
The key uses all three intensities.

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
- A bit is taken off for the rounding of double precision.

One departure is towards more: a count less its deviation is not taken below 0, which holds for
every expected count. ``as_printed`` is for comparison with published numbers, not for keys.

Erratum: the channel model of section IV has to use the system's transmittance in the error rate,
not the channel's. It does not enter here.
"""

from dataclasses import dataclass
from math import ceil, exp, floor, inf, log, log2, sqrt

from qkd_core.proofs.correctness import correctness_cost_bits
from qkd_core.proofs.sampling import errors_outside_max
from qkd_core.types.plans import Interval

THEOREM = "lim2014"
ROUNDING_BITS = 1
HALF = 0.5  # the error rate beyond which a bound says nothing
EPSILON_PARTS = 21  # of eps_sec, all equal: Appendix B, Eq. (B4)

Intervals = tuple[Interval, Interval, Interval]
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """All that the length is a function of.

    ``as_printed`` leaves out the departures that the module's docstring names, but for the
    limits of s_0 + s_1, v_1 and phi.
    """

    intensities: Triple
    probabilities: Triple
    key_counts: Intervals
    test_counts: Intervals
    test_errors: Intervals
    leak_ec: float
    eps_sec: float
    eps_cor: float
    as_printed: bool = False


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


@dataclass(frozen=True, slots=True)
class _Scaled:
    """n^-_k and n^+_k of the three intensities: counts over p_k e^-k, with their deviations."""

    minus: Triple
    plus: Triple


def bounds(premises: Premises) -> Bounds:
    """Evaluate Eqs (1) to (5). Source: Lim et al. 2014, section II."""
    tau_0, tau_1 = _photon_probability(premises, 0), _photon_probability(premises, 1)
    s_key_0, s_key_1 = _events(premises, premises.key_counts)
    s_test_0, s_test_1 = _events(premises, premises.test_counts)
    v_test_1 = _single_photon_errors(premises)
    ratio = min(HALF, v_test_1 / s_test_1) if s_test_1 > 0 else HALF
    gamma = _gamma(premises.eps_sec, ratio, s_test_1, s_key_1)
    phi_sampling = _phi_sampling(premises.eps_sec, v_test_1, s_test_1, s_key_1)
    phi = min(HALF, ratio + gamma if premises.as_printed else max(ratio + gamma, phi_sampling))
    secrecy_cost = 6 * log2(EPSILON_PARTS / premises.eps_sec)
    n_bits_max = ceil(sum(count.high for count in premises.key_counts))
    correctness_cost = correctness_cost_bits(premises.eps_cor, n_bits_max)
    length = (
        s_key_0
        + s_key_1 * (1 - binary_entropy(phi))
        - premises.leak_ec
        - secrecy_cost
        - correctness_cost
        - (0 if premises.as_printed else ROUNDING_BITS)
    )
    return Bounds(
        tau_0=tau_0,
        tau_1=tau_1,
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
        n_secret=max(0, floor(length)) if phi < HALF else 0,
    )


def binary_entropy(p: float) -> float:
    """h(p) in bits; 1 from one half on, where the entropy of a bound no longer grows."""
    if p >= HALF:
        return 1.0
    return -p * log2(p) - (1 - p) * log2(1 - p) if p > 0 else 0.0


def _photon_probability(premises: Premises, photons: int) -> float:
    """tau_0 or tau_1: the probability that a pulse holds so many photons."""
    pairs = zip(premises.probabilities, premises.intensities, strict=True)
    return sum(p * exp(-mu) * mu**photons for p, mu in pairs)


def _scaled(premises: Premises, counts: Intervals) -> _Scaled:
    """n^-_k and n^+_k by Hoeffding's inequality, which takes the total of all intensities."""
    total = sum(count.high for count in counts)
    deviation = sqrt(total / 2 * log(EPSILON_PARTS / premises.eps_sec))
    least = -inf if premises.as_printed else 0.0
    scales = [
        exp(mu) / p for mu, p in zip(premises.intensities, premises.probabilities, strict=True)
    ]
    signal, decoy, vacuum = (
        (scale * max(least, count.low - deviation), scale * (count.high + deviation))
        for scale, count in zip(scales, counts, strict=True)
    )
    return _Scaled(minus=(signal[0], decoy[0], vacuum[0]), plus=(signal[1], decoy[1], vacuum[1]))


def _events(premises: Premises, counts: Intervals) -> tuple[float, float]:
    """The least numbers of vacuum and of single-photon events: Eqs (2) and (3), not below 0.

    Nor above the least total: counts that no light gives would have them exceed it.
    """
    mu1, mu2, mu3 = premises.intensities
    tau_0, tau_1 = _photon_probability(premises, 0), _photon_probability(premises, 1)
    n = _scaled(premises, counts)
    total = sum(count.low for count in counts)
    s_0 = tau_0 * (mu2 * n.minus[2] - mu3 * n.plus[1]) / (mu2 - mu3)
    s_0 = min(max(0.0, s_0), total)
    multi = (mu2**2 - mu3**2) / mu1**2 * (n.plus[0] - s_0 / tau_0)
    s_1 = tau_1 * mu1 * (n.minus[1] - n.plus[2] - multi) / (mu1 * (mu2 - mu3) - mu2**2 + mu3**2)
    return s_0, min(max(0.0, s_1), total - s_0)


def _single_photon_errors(premises: Premises) -> float:
    """The most single-photon errors in the test basis: Eq. (4), within [0, all errors]."""
    _, mu2, mu3 = premises.intensities
    m = _scaled(premises, premises.test_errors)
    v_1 = _photon_probability(premises, 1) * (m.plus[1] - m.minus[2]) / (mu2 - mu3)
    return min(max(0.0, v_1), sum(errors.high for errors in premises.test_errors))


def _gamma(a: float, b: float, c: float, d: float) -> float:
    """gamma(a, b, c, d) of Eq. (5); 0 where it is not defined, or no error was seen."""
    if not 0 < b < 1 or min(c, d) <= 0:
        return 0.0
    inverse = (c + d) / (c * d)
    logarithm = log2(inverse / ((1 - b) * b) * EPSILON_PARTS**2 / a**2)
    return sqrt(inverse * (1 - b) * b / log(2) * max(0.0, logarithm))


def _phi_sampling(eps_sec: float, v_test_1: float, s_test_1: float, s_key_1: float) -> float:
    """The phase error rate by exact sampling, with the failure probability of Eq. (5).

    That probability is (eps_sec / 21)^2. 1/2 where nothing was sampled.
    """
    k, n = floor(s_test_1), floor(s_key_1)
    if k < 1 or n < 1 or v_test_1 >= k:
        return HALF
    log_eps = 2 * log(eps_sec / EPSILON_PARTS)
    return errors_outside_max(ceil(v_test_1), k, n, log_eps) / n
