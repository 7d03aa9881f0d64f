"""What theorems for decoy pulses start from: accepted counts, and the light that Alice sends."""

from dataclasses import dataclass
from fractions import Fraction

from qkd_core.proofs.rounding import exp_down, exp_up
from qkd_core.types.plans import DecoyPlan, Interval

Intervals = tuple[Interval, ...]  # one for each intensity
Enclosed = tuple[Fraction, Fraction]  # from below and from above


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """All that the length is a function of.

    Counts are the ends of intervals that are accepted: each bound is evaluated at the end that
    makes it weakest.
    """

    intensities: tuple[float, ...]
    probabilities: tuple[float, ...]
    key_counts: Intervals
    test_counts: Intervals
    test_errors: Intervals
    leak_ec: float
    eps_sec: float
    eps_cor: float


@dataclass(frozen=True, slots=True)
class Means:
    """Expected counts of each intensity: at least, and at most."""

    least: tuple[float, ...]
    most: tuple[float, ...]


def premises_of(plan: DecoyPlan) -> Premises:
    """The thresholds of ``plan``; `plan.n_secret` is not read."""
    return Premises(
        intensities=plan.settings.intensities,
        probabilities=plan.settings.probabilities,
        key_counts=plan.key_counts,
        test_counts=plan.test_counts,
        test_errors=tuple(Interval(low=0, high=most) for most in plan.test_errors_max),
        leak_ec=plan.leak_ec_max,
        eps_sec=plan.policy.eps_sec,
        eps_cor=plan.policy.eps_cor,
    )


@dataclass(frozen=True, slots=True)
class Light:
    """What Alice sends, in fractions; each pair encloses a number that is none.

    mu            the intensities
    scale         e^mu / p of each intensity, from below and from above
    tau_0, tau_1  the probability that a pulse holds no photon, or one
    """

    mu: tuple[Fraction, ...]
    scale: tuple[Enclosed, ...]
    tau_0: Enclosed
    tau_1: Enclosed

    @staticmethod
    def of(premises: Premises) -> "Light":
        """The light of ``premises``."""
        mu = tuple(Fraction(each) for each in premises.intensities)
        pairs = [
            (each, Fraction(p))
            for each, p in zip(premises.intensities, premises.probabilities, strict=True)
        ]
        none = [(exp_down(-each) * p, exp_up(-each) * p) for each, p in pairs]
        one = [(low * k, high * k) for (low, high), k in zip(none, mu, strict=True)]
        return Light(
            mu=mu,
            scale=tuple((exp_down(each) / p, exp_up(each) / p) for each, p in pairs),
            tau_0=_sum(none),
            tau_1=_sum(one),
        )

    def plus(self, k: int, means: Means) -> Fraction:
        """n^+_k: the expected count over p_k e^-mu_k, from above."""
        return self.scale[k][1] * Fraction(means.most[k])

    def minus(self, k: int, means: Means) -> Fraction:
        """n^-_k: the same from below, where the expected count is not below 0."""
        return self.scale[k][0] * Fraction(means.least[k])


def _sum(pairs: list[Enclosed]) -> Enclosed:
    return sum((low for low, _ in pairs), Fraction(0)), sum(
        (high for _, high in pairs), Fraction(0)
    )
