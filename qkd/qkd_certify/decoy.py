"""Keys from decoy pulses: Lim, Curty, Walenta, Xu, Zbinden, PRA 89 022307 (2014), by its equations.

``lim2014`` is the paper's theorem with the phase error rate not below the exact sampling bound;
``decoy2-exact`` has exact tails in the place of its inequalities. Every bound is taken at those
ends of the accepted counts that make it weakest. The key is of the paper's basis X.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from qkd_certify.binomial import greatest_mean, least_mean
from qkd_certify.intervals import (
    Interval,
    between,
    binary_entropy,
    ceil_high,
    ceil_low,
    exactly,
    exp,
    floor_high,
    floor_low,
    high,
    larger,
    log,
    log2,
    low,
    smaller,
    sqrt,
)
from qkd_certify.limits import Budget, DecoyLimits, Ends
from qkd_certify.refusal import CertificateRefused
from qkd_certify.sampling import errors_outside
from qkd_certify.theorem import HALF, ROUNDING_BITS, Derived, Part, correctness_cost

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

SINGLE_PHOTONS = ("s_key_0", "s_key_1", "s_test_0", "s_test_1", "v_test_1")
COSTS = ("secrecy_cost", "correctness_cost", "length")
EXACT_BOUNDS = (*SINGLE_PHOTONS, "phase_errors_max", "phi", *COSTS)
LIM_BOUNDS = (
    *("tau_0", "tau_1", *SINGLE_PHOTONS, "ratio", "gamma", "phi_sampling", "phi"),
    *COSTS,
)

Three = tuple[Ends, Ends, Ends]
Expect = Callable[[Three, Fraction], list[tuple[Interval, Interval]]]
"""From accepted counts, each but for a probability, to their least and greatest means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePhotons:
    """Vacuum and single-photon events and errors of a plan: Eqs (2) to (4)."""

    tau_0: Interval
    tau_1: Interval
    s_key_0: Interval
    s_key_1: Interval
    s_test_0: Interval
    s_test_1: Interval
    v_test_1: Interval


def secrecy(budget: Budget) -> tuple[Part, ...]:
    """The parts of eps_sec."""
    return tuple(Part(f"secrecy: {what}", _part(budget), times) for what, times in SECRECY)


def decoy2_exact(limits: DecoyLimits, budget: Budget, slack: Fraction) -> Derived:
    """Exact tails. ``slack``, relative: how far figures that are rounded to events may be off."""
    found, eps_1 = _single_photons(limits, budget, _by_exact_tails), _part(budget)
    errors, phi = _phase_errors(found, eps_1, slack)
    bounds = _named(found, SINGLE_PHOTONS)
    cost = correctness_cost(budget.eps_cor, limits.n_key_max)
    bounds |= {"phase_errors_max": errors, "phi": phi, "correctness_cost": cost}
    return _derived(budget, found, phi, bounds)


def lim2014(limits: DecoyLimits, budget: Budget, slack: Fraction) -> Derived:
    """The paper's deviations; phi by Eq. (5), and not below the exact sampling bound."""
    found, eps_1 = _single_photons(limits, budget, _by_hoeffding), _part(budget)
    if ceil_high(found.v_test_1) < GAMMA_ERRORS_MIN:
        raise CertificateRefused(
            "v_test_1 of lim2014",
            float(high(found.v_test_1)),
            f"at least {GAMMA_ERRORS_MIN} errors, below which gamma is no bound",
        )
    _, sampled = _phase_errors(found, eps_1, slack)
    ratio = exactly(HALF)
    if low(found.s_test_1) > 0:
        ratio = smaller(ratio, found.v_test_1 / found.s_test_1)
    gamma = _gamma(ratio, found.s_test_1, found.s_key_1, eps_1)
    phi = smaller(exactly(HALF), larger(ratio + gamma, sampled))
    bounds = _named(found, ("tau_0", "tau_1", *SINGLE_PHOTONS))
    bounds |= {"ratio": ratio, "gamma": gamma, "phi_sampling": sampled}
    cost = correctness_cost(budget.eps_cor, limits.n_key_max)
    return _derived(budget, found, phi, bounds | {"phi": phi, "correctness_cost": cost})


def _derived(
    budget: Budget, found: SinglePhotons, phi: Interval, bounds: dict[str, Interval]
) -> Derived:
    """The length. Source: Eq. (1), for whole events; a bit is taken off for rounding."""
    secrecy_cost = 6 * log2(1 / exactly(_part(budget)))
    whole = between(floor_low(found.s_key_1), floor_high(found.s_key_1))
    length = found.s_key_0 + whole * (1 - binary_entropy(phi)) - budget.leak_ec_max
    length -= secrecy_cost + bounds["correctness_cost"] + ROUNDING_BITS
    costs = {"secrecy_cost": secrecy_cost, "length": length}
    return Derived(bounds=bounds | costs, phi=phi, length=length)


def _part(budget: Budget) -> Fraction:
    return Fraction(budget.eps_sec) / PARTS


def _named(found: SinglePhotons, names: tuple[str, ...]) -> dict[str, Interval]:
    return {name: getattr(found, name) for name in names}


def _by_exact_tails(counts: Three, eps: Fraction) -> list[tuple[Interval, Interval]]:
    total = sum(most for _, most in counts)
    return [(least_mean(total, a, eps), greatest_mean(total, b, eps)) for a, b in counts]


def _by_hoeffding(counts: Three, eps: Fraction) -> list[tuple[Interval, Interval]]:
    """n^+-: above Eq. (2); not below 0."""
    total = exactly(sum(most for _, most in counts))
    deviation = sqrt(total / 2 * -log(exactly(eps)))
    return [(larger(exactly(0), a - deviation), b + deviation) for a, b in counts]


def _single_photons(limits: DecoyLimits, budget: Budget, expect: Expect) -> SinglePhotons:
    eps = _part(budget)
    light = list(zip(limits.intensities, limits.probabilities, strict=True))
    tau_0 = sum(exp(-exactly(mu)) * exactly(p) for mu, p in light)
    tau_1 = sum(exp(-exactly(mu)) * exactly(p) * exactly(mu) for mu, p in light)
    s_key = _events(limits, limits.key, expect(limits.key, eps), (tau_0, tau_1))
    s_test = _events(limits, limits.test, expect(limits.test, eps), (tau_0, tau_1))
    first, second, third = ((0, most) for most in limits.errors_max)
    errors = expect((first, second, third), eps)
    _, mu_2, mu_3 = (exactly(mu) for mu in limits.intensities)
    plus, minus = _scaled(limits, errors, 1)[1], _scaled(limits, errors, 2)[0]
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
    limits: DecoyLimits,
    counts: Three,
    means: list[tuple[Interval, Interval]],
    tau: tuple[Interval, Interval],
) -> tuple[Interval, Interval]:
    """The least vacuum and single-photon events, Eqs (2) and (3), together within the counts."""
    mu_1, mu_2, mu_3 = (exactly(mu) for mu in limits.intensities)
    (_, signal_plus), (decoy_minus, decoy_plus), (vacuum_minus, vacuum_plus) = (
        _scaled(limits, means, k) for k in range(3)
    )
    none, total = exactly(0), exactly(sum(least for least, _ in counts))
    s_0 = tau[0] * (mu_2 * vacuum_minus - mu_3 * decoy_plus) / (mu_2 - mu_3)
    s_0 = smaller(larger(none, s_0), total)
    multi = (mu_2**2 - mu_3**2) / mu_1**2 * (signal_plus - s_0 / tau[0])
    s_1 = tau[1] * mu_1 * (decoy_minus - vacuum_plus - multi)
    s_1 /= mu_1 * (mu_2 - mu_3) - mu_2**2 + mu_3**2
    return s_0, smaller(larger(none, s_1), total - s_0)


def _scaled(
    limits: DecoyLimits, means: list[tuple[Interval, Interval]], k: int
) -> tuple[Interval, Interval]:
    """n^-_k and n^+_k: e^mu / p times the means."""
    scale = exp(exactly(limits.intensities[k])) / exactly(limits.probabilities[k])
    return scale * means[k][0], scale * means[k][1]


@dataclass(frozen=True, slots=True)
class _Sample:
    """Whole events: errors seen, those tested, those of the key."""

    errors: int
    n_test: int
    n_key: int

    def errors_outside(self, eps: Fraction, slack: Fraction) -> tuple[int, int]:
        if min(self.n_test, self.n_key) < 1:
            return self.n_key, self.n_key
        return errors_outside(self.errors, (self.n_test, self.n_key), eps, slack)

    def rate(self, errors: int) -> Fraction:
        return min(HALF, Fraction(errors, self.n_key)) if self.n_key else HALF


def _phase_errors(
    found: SinglePhotons, eps_1: Fraction, slack: Fraction
) -> tuple[Interval, Interval]:
    """The most phase errors of whole single-photon key events, and their rate; 1/2 at most.

    Sampling may fail with eps_1^2, as a smoothing of eps_1 is a purified distance: Tomamichel et
    al., Nat. Commun. 3:634 (2012), supplement. Events and errors are rounded to the weaker side.
    """
    v_1, sampled, key = (_around(x, slack) for x in (found.v_test_1, found.s_test_1, found.s_key_1))
    best = _Sample(ceil_low(v_1), floor_high(sampled), floor_high(key))
    worst = _Sample(ceil_high(v_1), floor_low(sampled), floor_low(key))
    outside = {each: each.errors_outside(eps_1**2, slack) for each in {best, worst}}
    errors = between(*sorted((outside[best][0], outside[worst][1])))
    rates = sorted((best.rate(outside[best][0]), worst.rate(outside[worst][1])))
    return errors, between(*rates)


def _around(x: Interval, slack: Fraction) -> Interval:
    """``x`` as it may have been rounded; what was clipped to a count is exact."""
    return x if low(x) == high(x) else x * between(1 - slack, 1 + slack)


def _gamma(b: Interval, c: Interval, d: Interval, a: Fraction) -> Interval:
    """gamma(a, b, c, d) of Eq. (5), a over 21; 0 where it is not defined."""
    if min(low(c), low(d)) <= 0:
        return exactly(0)
    inverse, spread = (c + d) / (c * d), (1 - b) * b
    logarithm = log2(inverse / spread / exactly(a) ** 2)
    return sqrt(inverse * spread / log(exactly(2)) * larger(exactly(0), logarithm))
