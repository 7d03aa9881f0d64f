"""Keys of infinite length: Ma, Qi, Zhao, Lo, PRA 72, 012326 (2005), and the bound on any of them.

Equation numbers are those of the paper. q is 1/2, as for bases that are chosen equally often.
"""

from dataclasses import dataclass
from math import exp, expm1, log, log1p
from typing import Annotated

from qkd_core.proofs.entropy import binary_entropy
from qkd_core.proofs.formulas.stated import AT_LEAST_1, MEAN, RATE, Domain, Named

SIFTED = 0.5  # q of Eq. (1)
DARK_ERROR_RATE = 0.5  # e_0: a click of the background is right or wrong alike
POSITIVE_MEAN = Domain(low=0, high=MEAN.high, open_low=True)
POSITIVE_RATE = Domain(low=0, high=1, open_low=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class InfiniteDecoys:
    """Signals over a lossy link whose photon-number yields are known exactly.

    ``eta``: transmittance with the detector. ``y_0``: clicks without light. ``e_d``: how often a
    photon reaches the wrong detector.
    """

    mu: Annotated[float, POSITIVE_MEAN]
    eta: Annotated[float, RATE]
    y_0: Annotated[float, Named("Y0"), RATE]
    e_d: Annotated[float, Named("ed"), RATE]
    f: Annotated[float, AT_LEAST_1] = 1.22


@dataclass(frozen=True, slots=True, kw_only=True)
class InfiniteDecoysRate:
    """Gain and error rate of the signal and of its single photons, and the rate per pulse."""

    gain: Annotated[float, Named("Q")]
    qber: Annotated[float, Named("E")]
    y_1: Annotated[float, Named("Y1")]
    e_1: Annotated[float, Named("e1")]
    q_1: Annotated[float, Named("Q1")]
    rate: Annotated[float, Named("R")]


def ma2005_infinite(inputs: InfiniteDecoys) -> InfiniteDecoysRate:
    """Evaluate Eqs (1), (8), (9) and (10); Y_1 is y_0 + eta, as in the paper."""
    light = -expm1(-inputs.eta * inputs.mu)
    gain = inputs.y_0 + light
    errors = DARK_ERROR_RATE * inputs.y_0 + inputs.e_d * light
    y_1 = inputs.y_0 + inputs.eta
    e_1 = (DARK_ERROR_RATE * inputs.y_0 + inputs.e_d * inputs.eta) / y_1
    q_1 = y_1 * inputs.mu * exp(-inputs.mu)
    qber = errors / gain
    rate = _rate(_Signal(gain, qber, inputs.f), q_1, e_1)
    return InfiniteDecoysRate(gain=gain, qber=qber, y_1=y_1, e_1=e_1, q_1=q_1, rate=rate)


def ma2005_infinite_undefined(inputs: InfiniteDecoys) -> list[str]:
    if inputs.y_0 + inputs.eta > 0:
        return []
    return ["Y0 and eta are 0, allowed is more: nothing ever clicks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VacuumWeak:
    """Measured gains of a signal ``mu``, a weak decoy ``nu`` and the vacuum.

    ``errors_mu`` and ``errors_nu`` are error rates times gains.
    """

    mu: Annotated[float, POSITIVE_MEAN]
    nu: Annotated[float, POSITIVE_MEAN]
    gain_mu: Annotated[float, Named("Qmu"), POSITIVE_RATE]
    errors_mu: Annotated[float, Named("EQmu"), RATE]
    gain_nu: Annotated[float, Named("Qnu"), POSITIVE_RATE]
    errors_nu: Annotated[float, Named("EQnu"), RATE]
    y_0: Annotated[float, Named("Y0"), RATE]
    f: Annotated[float, AT_LEAST_1] = 1.22


@dataclass(frozen=True, slots=True, kw_only=True)
class VacuumWeakRate:
    """Bounds on the single photons, and the rate per pulse."""

    y_1: Annotated[float, Named("Y1")]
    e_1: Annotated[float | None, Named("e1")]
    q_1: Annotated[float, Named("Q1")]
    rate: Annotated[float, Named("R")]


def ma2005_vacuum_weak(inputs: VacuumWeak) -> VacuumWeakRate:
    """Evaluate Eqs (34), (35), (37) and (1). e_1 is None where no single photon is certain."""
    mu, nu, y_0 = inputs.mu, inputs.nu, inputs.y_0
    ratio = (nu / mu) ** 2
    weak, signal = inputs.gain_nu * exp(nu), inputs.gain_mu * exp(mu)
    y_1 = mu / (nu * (mu - nu)) * (weak - signal * ratio - (1 - ratio) * y_0)
    q_1 = mu * exp(-mu) * y_1
    e_1 = (inputs.errors_nu * exp(nu) - DARK_ERROR_RATE * y_0) / (y_1 * nu) if y_1 > 0 else None
    signal_seen = _Signal(inputs.gain_mu, inputs.errors_mu / inputs.gain_mu, inputs.f)
    rate = _rate(signal_seen, max(0.0, q_1), 1.0 if e_1 is None else e_1)
    return VacuumWeakRate(y_1=y_1, e_1=e_1, q_1=q_1, rate=rate)


def ma2005_vacuum_weak_undefined(inputs: VacuumWeak) -> list[str]:
    mu, nu = inputs.mu, inputs.nu
    lines = [] if nu < mu else [f"nu is {nu:g}, allowed is less than mu, {mu:g}"]
    pairs = (("mu", inputs.errors_mu, inputs.gain_mu), ("nu", inputs.errors_nu, inputs.gain_nu))
    return lines + [
        f"EQ{name} is {errors:g}, allowed is at most Q{name}, {gain:g}"
        for name, errors, gain in pairs
        if errors > gain
    ]


def ma2005_vacuum_weak_unproved(_inputs: VacuumWeak, out: VacuumWeakRate) -> list[str]:
    lines = [] if out.e_1 is not None else [f"Y1 is {out.y_1:.4g}, allowed is more than 0"]
    if out.y_1 > 1:
        lines.append(f"Y1 is {out.y_1:.4g}, allowed is at most 1: no light gives these gains")
    if out.e_1 is not None and out.e_1 < 0:
        lines.append(f"e1 is {out.e_1:.4g}, allowed is at least 0: no light gives these errors")
    return lines


@dataclass(frozen=True, slots=True)
class _Signal:
    gain: float
    qber: float
    f: float


def _rate(signal: _Signal, q_1: float, e_1: float) -> float:
    """Eq. (1): key per pulse; below 0 where there is none."""
    corrected = signal.gain * signal.f * binary_entropy(signal.qber)
    return SIFTED * (q_1 * (1 - binary_entropy(max(0.0, e_1))) - corrected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plob:
    """A lossy channel without noise."""

    eta: Annotated[float, Domain(low=0, high=1, open_high=True), RATE]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlobBound:
    """The most secret bits per use of the channel, without a repeater."""

    bound: Annotated[float, Named("b")]


def plob(inputs: Plob) -> PlobBound:
    """-log2(1 - eta). Source: Pirandola et al., Nat. Commun. 8:15043 (2017)."""
    return PlobBound(bound=-log1p(-inputs.eta) / log(2))
