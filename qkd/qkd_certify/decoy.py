"""Keys with two decoys: Lim, Curty, Walenta, Xu, Zbinden, PRA 89 022307 (2014), by its equations.

``lim2014`` is the paper's theorem with the phase error rate not below the exact sampling bound;
``decoy2-exact`` has exact tails in the place of its inequalities. Every bound is taken at those
ends of the accepted counts that make it weakest. The key is of the paper's basis X.
"""

from collections.abc import Callable
from fractions import Fraction

from qkd_certify.intervals import (
    Interval,
    ceil_high,
    exactly,
    high,
    larger,
    log,
    log2,
    low,
    smaller,
    sqrt,
)
from qkd_certify.limits import Budget, DecoyLimits
from qkd_certify.photons import (
    COSTS,
    SINGLE_PHOTONS,
    Counts,
    Means,
    SinglePhotons,
    by_exact_tails,
    exact_key,
    named,
    phase_errors,
    scaled,
    tau,
    with_length,
)
from qkd_certify.refusal import CertificateRefused
from qkd_certify.theorem import HALF, Derived, Part, correctness_cost

GAMMA_ERRORS_MIN = 20
PARTS = 21  # of eps_sec, all equal: Appendix B, Eq. (B4)
# eps_sec = 2 [2 alpha_1 + alpha_2 + alpha_3] + nu + 10 eps_1 + 2 eps_2: Eq. (B4)
SECRECY = (
    ("phase errors by sampling", 4),
    ("chain rules of the smooth entropy", 4),
    ("privacy amplification", 1),
    ("expected counts of both bases", 10),
    ("expected errors of the test", 2),
)

LIM_BOUNDS = (
    *("tau_0", "tau_1", *SINGLE_PHOTONS, "ratio", "gamma", "phi_sampling", "phi"),
    *COSTS,
)

Expect = Callable[[Counts, Fraction], Means]
"""From accepted counts, each but for a probability, to their least and greatest means."""


def secrecy(budget: Budget) -> tuple[Part, ...]:
    """The parts of eps_sec."""
    return tuple(Part(f"secrecy: {what}", _part(budget), times) for what, times in SECRECY)


def decoy2_exact(limits: DecoyLimits, budget: Budget, slack: Fraction) -> Derived:
    """Exact tails. ``slack``, relative: how far figures that are rounded to events may be off."""
    found = _single_photons(limits, budget, by_exact_tails)
    return exact_key(limits, budget, found, (PARTS, slack))


def lim2014(limits: DecoyLimits, budget: Budget, slack: Fraction) -> Derived:
    """The paper's deviations; phi by Eq. (5), and not below the exact sampling bound."""
    found, eps_1 = _single_photons(limits, budget, _by_hoeffding), _part(budget)
    if ceil_high(found.v_test_1) < GAMMA_ERRORS_MIN:
        raise CertificateRefused(
            "v_test_1 of lim2014",
            float(high(found.v_test_1)),
            f"at least {GAMMA_ERRORS_MIN} errors, below which gamma is no bound",
        )
    _, sampled = phase_errors(found, eps_1, slack)
    ratio = exactly(HALF)
    if low(found.s_test_1) > 0:
        ratio = smaller(ratio, found.v_test_1 / found.s_test_1)
    gamma = _gamma(ratio, found.s_test_1, found.s_key_1, eps_1)
    phi = smaller(exactly(HALF), larger(ratio + gamma, sampled))
    bounds = named(found, ("tau_0", "tau_1", *SINGLE_PHOTONS))
    bounds |= {"ratio": ratio, "gamma": gamma, "phi_sampling": sampled}
    cost = correctness_cost(budget.eps_cor, limits.n_key_max)
    return with_length(budget, found, bounds | {"phi": phi, "correctness_cost": cost}, PARTS)


def _part(budget: Budget) -> Fraction:
    return Fraction(budget.eps_sec) / PARTS


def _by_hoeffding(counts: Counts, eps: Fraction) -> Means:
    """n^+-: above Eq. (2); not below 0."""
    total = exactly(sum(most for _, most in counts))
    deviation = sqrt(total / 2 * -log(exactly(eps)))
    return [(larger(exactly(0), a - deviation), b + deviation) for a, b in counts]


def _single_photons(limits: DecoyLimits, budget: Budget, expect: Expect) -> SinglePhotons:
    eps, (tau_0, tau_1) = _part(budget), tau(limits)
    s_key = _events(limits, limits.key, expect(limits.key, eps), (tau_0, tau_1))
    s_test = _events(limits, limits.test, expect(limits.test, eps), (tau_0, tau_1))
    errors = expect(tuple((0, most) for most in limits.errors_max), eps)
    _, mu_2, mu_3 = (exactly(mu) for mu in limits.intensities)
    plus, minus = scaled(limits, errors, 1)[1], scaled(limits, errors, 2)[0]
    v_1 = tau_1 * (plus - minus) / (mu_2 - mu_3)  # Eq. (4)
    return SinglePhotons(
        tau_0=tau_0,
        tau_1=tau_1,
        s_key_0=s_key[0],
        s_key_1=s_key[1],
        s_test_0=s_test[0],
        s_test_1=s_test[1],
        v_test_1=smaller(larger(exactly(0), v_1), exactly(sum(limits.errors_max))),
    )


def _events(
    limits: DecoyLimits, counts: Counts, means: Means, taus: tuple[Interval, Interval]
) -> tuple[Interval, Interval]:
    """The least vacuum and single-photon events, Eqs (2) and (3), together within the counts."""
    mu_1, mu_2, mu_3 = (exactly(mu) for mu in limits.intensities)
    (_, signal_plus), (decoy_minus, decoy_plus), (vacuum_minus, vacuum_plus) = (
        scaled(limits, means, k) for k in range(3)
    )
    none, total = exactly(0), exactly(sum(least for least, _ in counts))
    s_0 = taus[0] * (mu_2 * vacuum_minus - mu_3 * decoy_plus) / (mu_2 - mu_3)
    s_0 = smaller(larger(none, s_0), total)
    multi = (mu_2**2 - mu_3**2) / mu_1**2 * (signal_plus - s_0 / taus[0])
    s_1 = taus[1] * mu_1 * (decoy_minus - vacuum_plus - multi)
    s_1 /= mu_1 * (mu_2 - mu_3) - mu_2**2 + mu_3**2
    return s_0, smaller(larger(none, s_1), total - s_0)


def _gamma(b: Interval, c: Interval, d: Interval, a: Fraction) -> Interval:
    """gamma(a, b, c, d) of Eq. (5), a over 21; 0 where it is not defined."""
    if min(low(c), low(d)) <= 0:
        return exactly(0)
    inverse, spread = (c + d) / (c * d), (1 - b) * b
    logarithm = log2(inverse / spread / exactly(a) ** 2)
    return sqrt(inverse * spread / log(exactly(2)) * larger(exactly(0), logarithm))
