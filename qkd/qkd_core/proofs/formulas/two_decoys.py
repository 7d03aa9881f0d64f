"""Bounds from two decoy intensities: Lim et al., PRA 89, 022307 (2014), Eqs (2) to (4).

They hold for any n^-_k and n^+_k between which e^mu_k / p_k times the expected counts lie. Three
ways to get these are here, one of which allows for no deviation at all.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import inf, sqrt

from qkd_core.proofs.formulas.source import Source
from qkd_core.proofs.formulas.stated import Triple


class Bound(StrEnum):
    """How far an expected count may lie from what was counted.

    HOEFFDING   sqrt(n b / 2) with the total n of all intensities, as in the paper
    CHERNOFF    by the count x itself: x + b + sqrt(2 b x + b^2), x - b / 2 - sqrt(2 b x + b^2 / 4)
    ASYMPTOTIC  not at all

    b is the logarithm of 1 / eps.
    """

    HOEFFDING = "hoeffding"
    CHERNOFF = "chernoff"
    ASYMPTOTIC = "asymptotic"

    def ends(self, count: float, total: float, b: float) -> tuple[float, float]:
        """The least and the largest expected count."""
        if self is Bound.HOEFFDING:
            delta = sqrt(total * b / 2)
            return count - delta, count + delta
        if self is Bound.CHERNOFF:
            below, above = b / 2 + sqrt(2 * b * count + b**2 / 4), b + sqrt(2 * b * count + b**2)
            return count - below, count + above
        return count, count


@dataclass(frozen=True, slots=True)
class Deviations:
    """``log_inverse_eps``: of one bound. ``clipped``: no expected count is below 0."""

    bound: Bound
    log_inverse_eps: float
    clipped: bool

    def scaled(self, source: Source, counts: Triple) -> tuple[Triple, Triple]:
        """n^-_k and n^+_k of the three intensities."""
        total = sum(counts)
        ends = [self.bound.ends(count, total, self.log_inverse_eps) for count in counts]
        least = 0.0 if self.clipped else -inf
        signal, decoy, vacuum = (
            (scale * max(least, low), scale * high)
            for scale, (low, high) in zip(source.scales(), ends, strict=True)
        )
        return (signal[0], decoy[0], vacuum[0]), (signal[1], decoy[1], vacuum[1])


def events(source: Source, deviations: Deviations, counts: Triple) -> tuple[float, float]:
    """The least vacuum and single-photon events: Eqs (2) and (3), not below 0.

    Nor above all events: counts that no light gives would have them exceed these.
    """
    mu1, mu2, mu3 = source.intensities
    tau_0, tau_1 = source.photon_probability(0), source.photon_probability(1)
    minus, plus = deviations.scaled(source, counts)
    total = sum(counts)
    s_0 = tau_0 * (mu2 * minus[2] - mu3 * plus[1]) / (mu2 - mu3)
    s_0 = min(max(0.0, s_0), total)
    multi = (mu2 + mu3) / mu1**2 * (plus[0] - s_0 / tau_0)
    single = (minus[1] - plus[2]) / (mu2 - mu3) - multi  # mu2 - mu3 divides all of Eq. (3)
    s_1 = tau_1 * mu1 * single / (mu1 - mu2 - mu3)
    return s_0, min(max(0.0, s_1), total - s_0)


def single_photon_errors_max(source: Source, deviations: Deviations, errors: Triple) -> float:
    """The most single-photon errors of the test basis: Eq. (4), from 0 to all errors."""
    _, mu2, mu3 = source.intensities
    minus, plus = deviations.scaled(source, errors)
    v_1 = source.photon_probability(1) * (plus[1] - minus[2]) / (mu2 - mu3)
    return min(max(0.0, v_1), sum(errors))
