"""Bounds from one decoy intensity: Rusca et al., Appl. Phys. Lett. 112, 171104 (2018), App. A.

The equations are common to `rusca2018` and `wiesemann2024`, which differ in the deviations of
the counts, in the bound on the phase errors and in the budget of epsilons. Error correction has to
come before: Eq. (A16) needs the errors of the key, for each intensity.

The print leaves e^k / p_k out of Eq. (A18); with it the equation is a bound, without not.
"""

from dataclasses import dataclass
from math import inf, log, sqrt

from qkd_core.proofs.formulas.domain import probabilities_off
from qkd_core.proofs.formulas.source import Source
from qkd_core.proofs.formulas.stated import Pair


@dataclass(frozen=True, slots=True)
class Basis:
    """Events and errors of one basis, for each intensity."""

    counts: Pair
    errors: Pair


@dataclass(frozen=True, slots=True)
class Deviations:
    """How far expected counts may lie from what was counted: delta(n), and whether to clip."""

    log_inverse_eps: float
    clipped: bool  # no expected count below 0 or above all counts

    @classmethod
    def of_parts(cls, parts: int, eps_sec: float, *, clipped: bool) -> "Deviations":
        """For bounds that fail with one of ``parts`` equal parts of ``eps_sec`` each."""
        return cls(log(parts / eps_sec), clipped)

    def delta(self, total: float) -> float:
        """Hoeffding's inequality, which takes the total of all intensities."""
        return sqrt(total / 2 * self.log_inverse_eps)

    def scaled(self, source: Source, counts: Pair) -> tuple[Pair, Pair]:
        """(n^-, n^+) of the larger and of the smaller intensity: Eq. (A15)."""
        total = sum(counts)
        delta = self.delta(total)
        least, most = (0.0, total) if self.clipped else (-inf, inf)
        larger, smaller = (
            (scale * max(least, n - delta), scale * min(most, n + delta))
            for scale, n in zip(source.scales(), counts, strict=True)
        )
        return larger, smaller


@dataclass(frozen=True, slots=True)
class Events:
    """Vacuum events at least and at most, single-photon events at least, in one basis."""

    s_0_min: float
    s_0_max: float
    s_1_min: float


def events(source: Source, deviations: Deviations, basis: Basis, vacuum_from: int | None) -> Events:
    """Eqs (A16), (A17) and (A19), clipped at 0 and at all events.

    ``vacuum_from`` is the intensity whose errors bound the vacuum events. None takes the better
    of the two, of which the budgets of epsilons pay for one.
    """
    mu_1, mu_2 = source.intensities
    tau_0, tau_1 = source.photon_probability(0), source.photon_probability(1)
    larger, smaller = deviations.scaled(source, basis.counts)
    plus = [each[1] for each in deviations.scaled(source, basis.errors)]
    total = sum(basis.counts)
    delta = deviations.delta(total)
    candidates = [2 * (tau_0 * each + delta) for each in plus]
    s_0_max = min(candidates) if vacuum_from is None else candidates[vacuum_from]
    s_0_min = tau_0 / (mu_1 - mu_2) * (mu_1 * smaller[0] - mu_2 * larger[1])
    ratio = (mu_2 / mu_1) ** 2
    s_1_min = (
        tau_1
        * mu_1
        / (mu_2 * (mu_1 - mu_2))
        * (smaller[0] - ratio * larger[1] - (1 - ratio) * s_0_max / tau_0)
    )
    s_0_min = min(max(0.0, s_0_min), total)
    s_1_min = min(max(0.0, s_1_min), total - s_0_min)
    return Events(s_0_min=s_0_min, s_0_max=s_0_max, s_1_min=s_1_min)


def single_photon_errors_max(source: Source, deviations: Deviations, errors: Pair) -> float:
    """The most single-photon errors of the test basis: Eq. (A22), clipped at 0."""
    larger, smaller = deviations.scaled(source, errors)
    mu_1, mu_2 = source.intensities
    return max(0.0, source.photon_probability(1) / (mu_1 - mu_2) * (larger[1] - smaller[0]))


def undefined(source: Source) -> list[str]:
    """Why the equations make no sense for this source, one line each."""
    mu_1, mu_2 = source.intensities
    lines = probabilities_off(source.probabilities)
    if not mu_1 > mu_2 > 0:
        lines.append(f"mu is {mu_1:g}, {mu_2:g}, allowed are falling numbers above 0")
    return lines
