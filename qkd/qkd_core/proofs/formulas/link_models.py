"""What detectors see of a source over a lossy link: gains, error rates and coincidences.

Numbers that differ little are never subtracted: a gain of 1e-9 keeps all of its digits.
"""

from dataclasses import dataclass
from math import erf, exp, expm1, log, log1p, sqrt
from typing import Annotated

from qkd_core.proofs.entropy import binary_entropy
from qkd_core.proofs.formulas.stated import AT_LEAST_0, MEAN, RATE, Domain, Named, Range

DARK_PROBABILITY = Range(low=0, high=1, open_high=True)
POSITIVE = Domain(low=0, open_low=True)
SIFTED = 0.5  # half of all pairs are measured in one basis
NEUMANN_F = 1.1  # parities over n h(qber), as in the paper


@dataclass(frozen=True, slots=True, kw_only=True)
class WcpTwoDetectors:
    """A weak coherent pulse ``mu`` on two threshold detectors, each dark with ``p_d``.

    ``eta``: transmittance with the detector. ``e_d``: share of the light at the wrong one.
    """

    mu: Annotated[float, MEAN]
    eta: Annotated[float, RATE]
    p_d: Annotated[float, Named("pd"), DARK_PROBABILITY]
    e_d: Annotated[float, Named("ed"), RATE]


@dataclass(frozen=True, slots=True, kw_only=True)
class WcpGain:
    """Probability of any click, of a wrong bit, their ratio, and that of both detectors."""

    gain: Annotated[float, Named("Q")]
    errors: Annotated[float, Named("EQ")]
    qber: Annotated[float | None, Named("E")]
    double: Annotated[float, Named("P_double")]


def wcp_gain_two_detectors(inputs: WcpTwoDetectors) -> WcpGain:
    """Exact for Poisson light; both detectors together give a random bit."""
    dark = log1p(-inputs.p_d)
    light = inputs.eta * inputs.mu
    log_wrong_silent = dark - light * inputs.e_d
    log_right_silent = dark - light * (1 - inputs.e_d)
    wrong, right = -expm1(log_wrong_silent), -expm1(log_right_silent)
    gain = -expm1(log_wrong_silent + log_right_silent)
    errors = wrong * (1 + exp(log_right_silent)) / 2
    qber = errors / gain if gain > 0 else None
    return WcpGain(gain=gain, errors=errors, qber=qber, double=wrong * right)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairGain:
    """A pulsed source of entangled pairs, 2 ``lam`` of them in the mean, between two ends.

    ``eta_a``, ``eta_b``: transmittance of an end with its detectors. ``y_0a``, ``y_0b``: clicks
    there without light. ``e_d``: how often one pair gives unequal bits.
    """

    lam: Annotated[float, Range(0, 1e3)]
    eta_a: Annotated[float, Named("etaA"), RATE]
    eta_b: Annotated[float, Named("etaB"), RATE]
    y_0a: Annotated[float, Named("Y0A"), RATE]
    y_0b: Annotated[float, Named("Y0B"), RATE]
    e_d: Annotated[float, Named("ed"), RATE]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairGains:
    """Probability of a coincidence, of one with unequal bits, and their ratio."""

    gain: Annotated[float, Named("Q")]
    errors: Annotated[float, Named("EQ")]
    qber: Annotated[float | None, Named("E")]


def mfl2007_gain(inputs: PairGain) -> PairGains:
    """Gain and error rate of Ma, Fung, Lo, PRA 76, 012307 (2007), Eqs (9) and (10), rearranged.

    With a = eta_a lam, b = eta_b lam, c = a + b - eta_a eta_b lam, the light leaves A, B or both
    dark with probability 1 / (1 + a)^2, 1 / (1 + b)^2 and 1 / (1 + c)^2. The print adds and
    subtracts these numbers, all near 1. Here (1 + a)(1 + b) - (1 + c) = g, with
    g = eta_a eta_b lam (1 + lam), has been divided out, so that every term has one sign.
    """
    lam = inputs.lam
    a, b = inputs.eta_a * lam, inputs.eta_b * lam
    c = a + b - inputs.eta_a * b
    g = inputs.eta_a * b * (1 + lam)
    apart, both = (1 + a) * (1 + b), 1 + c
    seen_apart = a * (2 + a) * b * (2 + b) / apart**2
    light = seen_apart + g * (apart + both) / (apart * both) ** 2
    with_dark_a = inputs.y_0a * b * (1 - inputs.eta_a) * (2 + a + c) / ((1 + a) * both) ** 2
    with_dark_b = inputs.y_0b * a * (1 - inputs.eta_b) * (2 + b + c) / ((1 + b) * both) ** 2
    dark = with_dark_a + with_dark_b + inputs.y_0a * inputs.y_0b / both**2
    # half of the light's coincidences less g / (apart both), its correlated part
    uncorrelated = seen_apart - g * (apart * c + both * (a + b + a * b)) / (apart * both) ** 2
    errors = (uncorrelated + dark) / 2 + 2 * inputs.e_d * g / (apart * both)
    return PairGains(
        gain=light + dark,
        errors=errors,
        qber=errors / (light + dark) if light + dark > 0 else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousPairs:
    """A continuous source of ``pair_rate`` entangled pairs a second between two ends.

    ``dark_a``, ``dark_b``: counts a second without light. ``window_s``: of a coincidence.
    ``jitter_s``: full width at half maximum of the time difference. ``e_pol``: how often a true
    pair gives unequal bits.
    """

    pair_rate: Annotated[float, Named("B"), AT_LEAST_0]
    eta_a: Annotated[float, Named("etaA"), RATE]
    eta_b: Annotated[float, Named("etaB"), RATE]
    dark_a: Annotated[float, Named("dcA"), AT_LEAST_0]
    dark_b: Annotated[float, Named("dcB"), AT_LEAST_0]
    window_s: Annotated[float, Named("tcc"), POSITIVE]
    jitter_s: Annotated[float, Named("tdelta"), POSITIVE]
    e_pol: Annotated[float, Named("epol"), RATE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coincidences:
    """Rates a second; the key rate may be below 0."""

    singles_a: Annotated[float, Named("S_A")]
    singles_b: Annotated[float, Named("S_B")]
    true: Annotated[float, Named("CC_true")]
    accidental: Annotated[float, Named("CC_acc")]
    window_efficiency: Annotated[float, Named("window_eff")]
    measured: Annotated[float, Named("CC_meas")]
    qber: Annotated[float | None, Named("E")]
    visibility: float | None
    rate: Annotated[float, Named("R")]


def neumann2021(inputs: ContinuousPairs) -> Coincidences:
    """Neumann, Scheidl, Selimovic, Pivoluska, Liu, Bohmann, Ursin, PRA 104, 022406 (2021)."""
    singles_a = inputs.pair_rate * inputs.eta_a + inputs.dark_a
    singles_b = inputs.pair_rate * inputs.eta_b + inputs.dark_b
    window = inputs.window_s
    true = inputs.pair_rate * inputs.eta_a * inputs.eta_b
    accidental = expm1(-singles_a * window) * expm1(-singles_b * window) / window
    efficiency = erf(sqrt(log(2)) * window / inputs.jitter_s)
    measured = efficiency * true + accidental
    if measured > 0:
        qber = (efficiency * true * inputs.e_pol + accidental / 2) / measured
        rate = SIFTED * measured * (1 - (1 + NEUMANN_F) * binary_entropy(qber))
    else:
        qber, rate = None, 0.0
    return Coincidences(
        singles_a=singles_a,
        singles_b=singles_b,
        true=true,
        accidental=accidental,
        window_efficiency=efficiency,
        measured=measured,
        qber=qber,
        visibility=None if qber is None else 1 - 2 * qber,
        rate=rate,
    )
