"""What keys from decoy pulses have in common: expected counts, phase errors, and the length."""

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
    log2,
    low,
)
from qkd_certify.limits import Budget, DecoyLimits, Ends
from qkd_certify.sampling import errors_outside
from qkd_certify.theorem import HALF, ROUNDING_BITS, Derived, correctness_cost

SINGLE_PHOTONS = ("s_key_0", "s_key_1", "s_test_0", "s_test_1", "v_test_1")
COSTS = ("secrecy_cost", "correctness_cost", "length")
EXACT_BOUNDS = (*SINGLE_PHOTONS, "phase_errors_max", "phi", *COSTS)

Counts = tuple[Ends, ...]  # accepted, of each intensity
Means = list[tuple[Interval, Interval]]  # least and greatest, of each intensity


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


def tau(limits: DecoyLimits) -> tuple[Interval, Interval]:
    """The probability that a pulse holds no photon, and one."""
    light = list(zip(limits.intensities, limits.probabilities, strict=True))
    tau_0 = sum(exp(-exactly(mu)) * exactly(p) for mu, p in light)
    return tau_0, sum(exp(-exactly(mu)) * exactly(p) * exactly(mu) for mu, p in light)


def by_exact_tails(counts: Counts, eps: Fraction) -> Means:
    """Each but for ``eps``."""
    total = sum(most for _, most in counts)
    return [(least_mean(total, a, eps), greatest_mean(total, b, eps)) for a, b in counts]


def scaled(limits: DecoyLimits, means: Means, k: int) -> tuple[Interval, Interval]:
    """n^-_k and n^+_k: e^mu / p times the means."""
    scale = exp(exactly(limits.intensities[k])) / exactly(limits.probabilities[k])
    return scale * means[k][0], scale * means[k][1]


def exact_key(
    limits: DecoyLimits, budget: Budget, found: SinglePhotons, how: tuple[int, Fraction]
) -> Derived:
    """The key of ``found``; ``how``: parts of eps_sec, and the slack of `phase_errors`."""
    parts, slack = how
    errors, phi = phase_errors(found, Fraction(budget.eps_sec) / parts, slack)
    cost = correctness_cost(budget.eps_cor, limits.n_key_max)
    bounds = named(found, SINGLE_PHOTONS)
    bounds |= {"phase_errors_max": errors, "phi": phi, "correctness_cost": cost}
    return with_length(budget, found, bounds, parts)


def with_length(
    budget: Budget, found: SinglePhotons, bounds: dict[str, Interval], parts: int
) -> Derived:
    """``bounds`` and the length, of ``parts`` of eps_sec.

    Source: Lim et al. 2014, Eq. (1), for whole events; a bit is taken off for rounding.
    """
    secrecy_cost, phi = 6 * log2(parts / exactly(budget.eps_sec)), bounds["phi"]
    whole = between(floor_low(found.s_key_1), floor_high(found.s_key_1))
    length = found.s_key_0 + whole * (1 - binary_entropy(phi)) - budget.leak_ec_max
    length -= secrecy_cost + bounds["correctness_cost"] + ROUNDING_BITS
    costs = {"secrecy_cost": secrecy_cost, "length": length}
    return Derived(bounds=bounds | costs, phi=phi, length=length)


def named(found: SinglePhotons, names: tuple[str, ...]) -> dict[str, Interval]:
    return {name: getattr(found, name) for name in names}


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


def phase_errors(
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
