"""From counts of three intensities to single photons: Lim et al., PRA 89, 022307 (2014).

The equations that bound vacuum and single-photon events by the *expected* counts of each
intensity are linear and exact. Theorems differ in how they get from the counts to the expected
ones: `proofs.lim2014` by Hoeffding's inequality, `proofs.decoy2_exact` by exact tails.

The paper takes the key from its X basis and tests in Z; here they are the key and the test basis.
The key uses all three intensities. Rounding is outward: expected counts arrive so, and everything
after them is exact but for the last step, see `proofs.rounding`.
"""

from fractions import Fraction

from qkd_core.proofs.epsilon_parts import equal_part
from qkd_core.proofs.premises import Intervals, Light, Means
from qkd_core.proofs.rounding import down, up
from qkd_core.types.evaluation import Spent
from qkd_core.types.plans import SecurityPolicy

EPSILON_PARTS = 21  # of eps_sec, all equal: Appendix B, Eq. (B4)


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
