"""Keys with one decoy: the linear bounds of Rusca et al., APL 112, 171104 (2018), with exact tails.

Vacuum events of either basis are bounded from above by the errors of the decoy in the test basis.
Of all vacuum events, those in the key basis and those in the test basis that are wrong and of the
decoy have the shares p^2 and (1 - p)^2 q / 2, with q = p_2 e^-mu_2 / tau_0, whatever Eve does; so
each of these two kinds together is independently of the second one with a known probability.
"""

from fractions import Fraction

from qkd_certify.binomial import others_at_most
from qkd_certify.intervals import Interval, between, exactly, exp, larger, smaller
from qkd_certify.limits import Budget, OneDecoyLimits
from qkd_certify.photons import (
    EXACT_BOUNDS,
    Counts,
    SinglePhotons,
    by_exact_tails,
    exact_key,
    scaled,
    tau,
)
from qkd_certify.theorem import Derived, Part

PARTS = 17  # of eps_sec, all equal
# eps_sec = 2 [2 alpha_1 + alpha_2 + alpha_3] + nu + 4 eps_1 + 2 eps_2 + 2 eps_3
SECRECY = (
    ("phase errors by sampling", 4),
    ("chain rules of the smooth entropy", 4),
    ("privacy amplification", 1),
    ("expected counts of both bases", 4),
    ("expected errors of the test", 2),
    ("vacuum events of both bases", 2),
)
BOUNDS = (*EXACT_BOUNDS, "s_key_0_max", "s_test_0_max")


def secrecy(budget: Budget) -> tuple[Part, ...]:
    """The parts of eps_sec."""
    part = Fraction(budget.eps_sec) / PARTS
    return tuple(Part(f"secrecy: {what}", part, times) for what, times in SECRECY)


def decoy1_exact(limits: OneDecoyLimits, budget: Budget, slack: Fraction) -> Derived:
    """``slack``, relative: how far figures that are rounded to events may be off."""
    eps, taus = Fraction(budget.eps_sec) / PARTS, tau(limits)
    most = _most_vacuum(limits, eps, taus[0], slack)
    s_key = _events(limits, limits.key, eps, (*taus, most[0]))
    s_test = _events(limits, limits.test, eps, (*taus, most[1]))
    means = by_exact_tails(tuple((0, most) for most in limits.errors_max), eps)
    v_1 = [
        taus[1] * scaled(limits, means, k)[1] / exactly(mu)
        for k, mu in enumerate(limits.intensities)
    ]
    found = SinglePhotons(
        tau_0=taus[0],
        tau_1=taus[1],
        s_key_0=s_key[0],
        s_key_1=s_key[1],
        s_test_0=s_test[0],
        s_test_1=s_test[1],
        v_test_1=smaller(smaller(*v_1), exactly(sum(limits.errors_max))),
    )
    derived = exact_key(limits, budget, found, (PARTS, slack))
    bounds = derived.bounds | {"s_key_0_max": most[0], "s_test_0_max": most[1]}
    return Derived(bounds=bounds, phi=derived.phi, length=derived.length)


def _most_vacuum(
    limits: OneDecoyLimits, eps: Fraction, tau_0: Interval, slack: Fraction
) -> tuple[Interval, Interval]:
    """The most vacuum events of the key and of the test."""
    p = exactly(limits.p_key_basis)
    q = exactly(limits.probabilities[1]) * exp(-exactly(limits.intensities[1])) / tau_0
    wrong, seen = (1 - p) ** 2 * q / 2, limits.errors_max[1]
    n_key, n_test = limits.n_key_max, sum(most for _, most in limits.test)
    key = others_at_most((seen, n_key), wrong / (p**2 + wrong), eps, slack)
    others = others_at_most((seen, n_test), q / 2, eps, slack)
    return between(*key), between(*(min(seen + each, n_test) for each in others))


def _events(
    limits: OneDecoyLimits,
    counts: Counts,
    eps: Fraction,
    known: tuple[Interval, Interval, Interval],
) -> tuple[Interval, Interval]:
    """The least vacuum and single-photon events: Eqs (A19) and (A17), together within the counts.

    ``known``: tau_0, tau_1 and the most vacuum events.
    """
    tau_0, tau_1, most = known
    mu_1, mu_2 = (exactly(mu) for mu in limits.intensities)
    means = by_exact_tails(counts, eps)
    signal_plus, decoy_minus = scaled(limits, means, 0)[1], scaled(limits, means, 1)[0]
    none, total = exactly(0), exactly(sum(least for least, _ in counts))
    s_0 = tau_0 / (mu_1 - mu_2) * (mu_1 * decoy_minus - mu_2 * signal_plus)
    s_0 = smaller(larger(none, s_0), total)
    rest = decoy_minus - (mu_2 / mu_1) ** 2 * signal_plus
    rest -= (1 - (mu_2 / mu_1) ** 2) * most / tau_0
    s_1 = tau_1 * rest / (mu_2 - mu_2**2 / mu_1)
    return s_0, smaller(larger(none, s_1), total - s_0)
