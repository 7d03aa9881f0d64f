"""From counts of two intensities to single photons: Rusca et al., APL 112, 171104 (2018).

With n_k the expected count of intensity k, over p_k e^-mu_k, and s_m the events of m photons,

    n_k = sum over m of mu_k^m / m! s_m / tau_m,

so n_2 - (mu_2 / mu_1)^2 n_1 holds nothing positive beyond m = 1: a least number of single photons
follows from a *greatest* number of vacuum events, Eq. (A17). In the same way mu_1 n_2 - mu_2 n_1
holds nothing positive beyond m = 0, Eq. (A19). The equations are those of the paper's appendix, in
which the key is of Z and the test of X.

The paper bounds the vacuum events from above by the errors of each basis, Eq. (A16). Those of the
key basis are not known before error correction. `most_vacuum` takes both bounds from the test:

**Vacuum events from errors of the test.** A pulse without a photon carries nothing of what Alice
chose. Given that it was detected, whose chance does not depend on Bob's basis, all this is
independent of each other, of all other pulses and of whatever Eve did before the bases were said:
both ends chose the key basis, p^2, or both the test basis, (1 - p)^2; Bob's bit is wrong, exactly
1/2, since Alice's is a fair coin; it was of intensity mu_2, q = p_2 e^-mu_2 / tau_0. Drop all
vacuum events but those of the key basis, and those of the test basis that are wrong and of mu_2.
Each of the rest is of the second kind with

    r = (1 - p)^2 q / 2 / (p^2 + (1 - p)^2 q / 2),

and those of the second kind are among the errors of mu_2 in the test, which the plan limits. So
`proofs.negative_binomial` limits those of the first kind. In the test basis the second kind has the
share q / 2 of all vacuum events. The dimmer intensity is fixed as the one that is looked at: an
empty pulse makes up more of its errors.
"""

from dataclasses import dataclass, fields
from fractions import Fraction

from qkd_core.proofs import premises
from qkd_core.proofs.epsilon_parts import equal_part
from qkd_core.proofs.negative_binomial import others_at_most
from qkd_core.proofs.premises import Intervals, Light, Means
from qkd_core.proofs.rounding import down, up
from qkd_core.types.evaluation import Spent
from qkd_core.types.plans import DecoyPlan, SecurityPolicy

EPSILON_PARTS = 17  # of eps_sec, all equal: see `secrecy`
SIGNAL, DECOY = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises(premises.Premises):
    """With how often each end chooses the key basis."""

    p_key_basis: float


def premises_of(plan: DecoyPlan) -> Premises:
    """The thresholds of ``plan``; `plan.n_secret` is not read."""
    common = premises.premises_of(plan)
    told = {each.name: getattr(common, each.name) for each in fields(common)}
    return Premises(**told, p_key_basis=plan.settings.p_key_basis)


def most_vacuum(
    light: Light, errors_max: int, p_key_basis: float, eps: float, totals: tuple[int, int]
) -> tuple[int, int]:
    """The most vacuum events of the key and of the test basis, each but for ``eps``.

    ``errors_max``: errors of the decoy in the test; ``totals``: events of both bases, at most.
    """
    key = Fraction(p_key_basis) ** 2
    wrong = 1 / (light.scale[DECOY][1] * light.tau_0[1]) / 2  # q / 2, from below
    of_test = (1 - Fraction(p_key_basis)) ** 2 * wrong
    s_key_0 = others_at_most(errors_max, of_test / (key + of_test), eps, totals[0])
    s_test_0 = errors_max + others_at_most(errors_max, wrong, eps, totals[1])
    return s_key_0, min(s_test_0, totals[1])


def events(light: Light, counts: Intervals, means: Means, vacuum_max: int) -> tuple[float, float]:
    """The least numbers of vacuum and of single-photon events: Eqs (A19) and (A17), not below 0.

    Nor together above the least total. ``vacuum_max``: vacuum events, at most.
    """
    mu1, mu2 = light.mu
    signal, decoy = light.plus(SIGNAL, means), light.minus(DECOY, means)
    total = Fraction(sum(count.low for count in counts))
    vacuum = light.tau_0[0] * (mu1 * decoy - mu2 * signal) / (mu1 - mu2)
    s_0 = min(max(Fraction(0), vacuum), total)
    none = (mu1**2 - mu2**2) / mu1**2 * vacuum_max / light.tau_0[0]
    single = mu1 * (decoy - mu2**2 / mu1**2 * signal - none) / (mu2 * (mu1 - mu2))
    s_1 = min(max(Fraction(0), light.tau_1[0] * single), total - s_0)
    return down(s_0), down(s_1)


def single_photon_errors(light: Light, errors: Intervals, means: Means) -> float:
    """The most single-photon errors in the test basis, not above all errors.

    Of each intensity they are at most all errors: v_1 <= tau_1 m_k / mu_k, the better of both, for
    both of which the failure probability is paid. Eq. (A22) takes the errors of the decoy off those
    of the signal; a plan has no least number of them.
    """
    each = (light.plus(k, means) / light.mu[k] for k in (SIGNAL, DECOY))
    v_1 = light.tau_1[1] * min(each)
    return up(min(v_1, Fraction(sum(count.high for count in errors))))


def secrecy(policy: SecurityPolicy) -> tuple[Spent, ...]:
    """The parts of eps_sec = 2 [2 a_1 + a_2 + a_3] + nu + 4 e_1 + 2 e_2 + 2 e_3, all equal.

    As Lim et al. 2014, Eq. (B4), but with two expected counts in each basis, and e_3 for each of
    the bounds of the vacuum events.
    """
    part = equal_part(policy.eps_sec, EPSILON_PARTS)
    return tuple(
        Spent(what=f"secrecy: {what}", epsilon=part, times=times)
        for what, times in (
            ("phase errors by sampling", 4),
            ("chain rules of the smooth entropy", 4),
            ("privacy amplification", 1),
            ("expected counts of both bases", 4),
            ("expected errors of the test", 2),
            ("vacuum events of both bases", 2),
        )
    )
