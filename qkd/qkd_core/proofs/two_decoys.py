"""From counts of three intensities to single photons: Lim et al., PRA 89, 022307 (2014).

The equations that bound vacuum and single-photon events by the *expected* counts of each
intensity are linear and exact. Theorems differ in how they get from the counts to the expected
ones: `proofs.lim2014` by Hoeffding's inequality, `proofs.decoy2_exact` by exact tails.

The paper takes the key from its X basis and tests in Z; here they are the key and the test basis.
The key uses all three intensities. Rounding is outward: expected counts arrive so, and everything
after them is exact but for the last step, see `proofs.rounding`.
"""

from dataclasses import dataclass
from fractions import Fraction

from qkd_core.proofs.epsilon_parts import equal_part
from qkd_core.proofs.rounding import down, exp_down, exp_up, up
from qkd_core.types.evaluation import Spent
from qkd_core.types.plans import DecoyPlan, Interval, SecurityPolicy

EPSILON_PARTS = 21  # of eps_sec, all equal: Appendix B, Eq. (B4)

Intervals = tuple[Interval, Interval, Interval]
Triple = tuple[float, float, float]
Enclosed = tuple[Fraction, Fraction]  # from below and from above


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """All that the length is a function of.

    Counts are the ends of intervals that are accepted: each bound is evaluated at the end that
    makes it weakest.
    """

    intensities: Triple
    probabilities: Triple
    key_counts: Intervals
    test_counts: Intervals
    test_errors: Intervals
    leak_ec: float
    eps_sec: float
    eps_cor: float


@dataclass(frozen=True, slots=True)
class Means:
    """Expected counts of the three intensities: at least, and at most."""

    least: Triple
    most: Triple


def premises_of(plan: DecoyPlan) -> Premises:
    """The thresholds of ``plan``; `plan.n_secret` is not read."""
    errors_0, errors_1, errors_2 = plan.test_errors_max
    return Premises(
        intensities=plan.settings.intensities,
        probabilities=plan.settings.probabilities,
        key_counts=plan.key_counts,
        test_counts=plan.test_counts,
        test_errors=(
            Interval(low=0, high=errors_0),
            Interval(low=0, high=errors_1),
            Interval(low=0, high=errors_2),
        ),
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

    mu: tuple[Fraction, Fraction, Fraction]
    scale: tuple[Enclosed, Enclosed, Enclosed]
    tau_0: Enclosed
    tau_1: Enclosed

    @staticmethod
    def of(premises: Premises) -> "Light":
        """The light of ``premises``."""
        mu_1, mu_2, mu_3 = (Fraction(mu) for mu in premises.intensities)
        chances = [Fraction(p) for p in premises.probabilities]
        scale_1, scale_2, scale_3 = (
            (exp_down(mu) / p, exp_up(mu) / p)
            for mu, p in zip(premises.intensities, chances, strict=True)
        )
        none = [
            (exp_down(-mu) * p, exp_up(-mu) * p)
            for mu, p in zip(premises.intensities, chances, strict=True)
        ]
        one = [
            (low * mu, high * mu) for (low, high), mu in zip(none, (mu_1, mu_2, mu_3), strict=True)
        ]
        return Light(
            mu=(mu_1, mu_2, mu_3),
            scale=(scale_1, scale_2, scale_3),
            tau_0=_sum(none),
            tau_1=_sum(one),
        )

    def plus(self, k: int, means: Means) -> Fraction:
        """n^+_k: the expected count over p_k e^-mu_k, from above."""
        return self.scale[k][1] * Fraction(means.most[k])

    def minus(self, k: int, means: Means) -> Fraction:
        """n^-_k: the same from below, where the expected count is not below 0."""
        return self.scale[k][0] * Fraction(means.least[k])


def events(light: Light, counts: Intervals, means: Means) -> tuple[float, float]:
    """The least numbers of vacuum and of single-photon events: Eqs (2) and (3), not below 0.

    Nor above the least total: counts that no light gives would have them exceed it.
    """
    mu1, mu2, mu3 = light.mu
    total = Fraction(sum(count.low for count in counts))
    vacuum = (mu2 * light.minus(2, means) - mu3 * light.plus(1, means)) / (mu2 - mu3)
    s_0 = min(max(Fraction(0), vacuum * light.tau_0[0]), total)
    multi = (mu2**2 - mu3**2) / mu1**2 * (light.plus(0, means) - s_0 / light.tau_0[1])
    single = mu1 * (light.minus(1, means) - light.plus(2, means) - multi)
    single /= mu1 * (mu2 - mu3) - mu2**2 + mu3**2
    s_1 = min(max(Fraction(0), single * light.tau_1[0]), total - s_0)
    return down(s_0), down(s_1)


def single_photon_errors(light: Light, errors: Intervals, means: Means) -> float:
    """The most single-photon errors in the test basis: Eq. (4), within [0, all errors]."""
    _, mu2, mu3 = light.mu
    v_1 = light.tau_1[1] * (light.plus(1, means) - light.minus(2, means)) / (mu2 - mu3)
    return up(min(max(Fraction(0), v_1), Fraction(sum(count.high for count in errors))))


def secrecy(policy: SecurityPolicy) -> tuple[Spent, ...]:
    """The parts of eps_sec = 2 [2 a_1 + a_2 + a_3] + nu + 10 e_1 + 2 e_2: Eq. (B4), all equal."""
    part = equal_part(policy.eps_sec, EPSILON_PARTS)
    return tuple(
        Spent(what=f"secrecy: {what}", epsilon=part, times=times)
        for what, times in (
            ("phase errors by sampling", 4),
            ("chain rules of the smooth entropy", 4),
            ("privacy amplification", 1),
            ("expected counts of both bases", 10),
            ("expected errors of the test", 2),
        )
    )


def _sum(pairs: list[Enclosed]) -> Enclosed:
    return sum((low for low, _ in pairs), Fraction(0)), sum(
        (high for _, high in pairs), Fraction(0)
    )
