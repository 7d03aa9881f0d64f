"""Deriving a certificate again, from the counts that its plan accepts to the length of the key."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from qkd_certify import decoy, one_decoy, pairs, photons, vendor
from qkd_certify.certificate import Certificate, Told, read, refuse_other_figures
from qkd_certify.intervals import Interval, high, low
from qkd_certify.limits import (
    Budget,
    DecoyLimits,
    Limits,
    OneDecoyLimits,
    PairLimits,
    Plan,
    VendorLimits,
)
from qkd_certify.nodes import Node
from qkd_certify.refusal import CertificateRefused
from qkd_certify.theorem import Derived, Part
from qkd_certify.thresholds import refuse_not_accepted

SLACK = Fraction(1, 10**7)  # relative, of what is rounded to whole events in a told bound
TOLERANCE = Fraction(1, 10**9)  # relative, of a told bound; of events, to those of the block
BITS_TOLERANCE = Fraction(1, 4)  # of told differences of large numbers, in bits
FINITE = 1e300
DIFFERENCES = ("entropy", "length")
LEDGER_TOLERANCE = Fraction(1, 1 << 50)  # relative: a double's rounding
MESSAGE_BLOCKS = 1 << 28  # of 16 bytes, at most: 4 GiB
HEALTH = Part("health: the verdict on the key", Fraction(1, 1 << 60), 1)
TAGS = Part("authentication: tags", Fraction(MESSAGE_BLOCKS + 1, 1 << 128), 8)
"""A message of L blocks is forged with (L + 1) / 2^128 at most (Wegman and Carter 1981)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Theorem:
    version: str
    source: str
    limits: type[Limits]
    bounds: tuple[str, ...]
    secrecy: Callable[[Budget], tuple[Part, ...]]
    derive: Callable[[Any, Budget, Fraction], Derived]


LIM = "Lim, Curty, Walenta, Xu, Zbinden, PRA 89 022307 (2014)"
THEOREMS = {
    "decoy1-exact": Theorem(
        version="1",
        source="Rusca et al., APL 112, 171104 (2018), appendix, with exact tails",
        limits=OneDecoyLimits,
        bounds=one_decoy.BOUNDS,
        secrecy=one_decoy.secrecy,
        derive=one_decoy.decoy1_exact,
    ),
    "decoy2-exact": Theorem(
        version="1",
        source=f"{LIM}, Eqs (1) to (4), with exact tails",
        limits=DecoyLimits,
        bounds=photons.EXACT_BOUNDS,
        secrecy=decoy.secrecy,
        derive=decoy.decoy2_exact,
    ),
    "lim2014": Theorem(
        version="1",
        source=f"{LIM}, Eqs (1) to (5)",
        limits=DecoyLimits,
        bounds=decoy.LIM_BOUNDS,
        secrecy=decoy.secrecy,
        derive=decoy.lim2014,
    ),
    "bbm92": Theorem(
        version="1",
        source="Tomamichel, Lim, Gisin, Renner, Nat. Commun. 3:634 (2012), with exact sampling",
        limits=PairLimits,
        bounds=pairs.BOUNDS,
        secrecy=pairs.secrecy,
        derive=pairs.bbm92,
    ),
    "vendor-asserted": Theorem(
        version="1",
        source="the word of a vendor: no theorem",
        limits=VendorLimits,
        bounds=vendor.BOUNDS,
        secrecy=vendor.secrecy,
        derive=vendor.vendor_asserted,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an accepted certificate shows: no more than ``n_secret_max`` bits were to be taken.

    ``bounds``: ends of the interval of each figure between counts and length, and of the length.
    """

    theorem: str
    version: str
    source: str
    plan: Plan
    told: Told
    bounds: dict[str, tuple[float, float]]
    ledger: tuple[Part, ...]
    n_secret_max: int


def check(certificate: dict[str, Any]) -> Verdict:
    """Derive every figure of ``certificate`` again. Raises CertificateRefused at the first other.

    What no other figure depends on is held by the digest of them all, which comes last: bits that
    differed, and of pairs what was disclosed of the errors.
    """
    told = read(certificate, {name: theorem.limits for name, theorem in THEOREMS.items()})
    theorem = THEOREMS[told.theorem]
    if told.version != theorem.version:
        raise CertificateRefused("theorem.version", told.version, theorem.version)
    refuse_not_accepted(told)
    limits, budget = told.plan.limits, told.plan.budget
    ledger = _ledger(told, theorem.secrecy(budget))
    bounds = _bounds(told.bounds, theorem.bounds)
    derived = theorem.derive(limits, budget, Fraction(0))
    _refuse_other_bounds(bounds, theorem.derive(limits, budget, SLACK).bounds, limits.n_key_max)
    if told.plan.n_secret > derived.n_secret_max:
        raise CertificateRefused("n_secret", told.plan.n_secret, f"at most {derived.n_secret_max}")
    refuse_other_figures(certificate)
    return Verdict(
        theorem=told.theorem,
        version=told.version,
        source=theorem.source,
        plan=told.plan,
        told=told.told,
        bounds={name: _ends(x) for name, x in derived.bounds.items()},
        ledger=ledger,
        n_secret_max=derived.n_secret_max,
    )


def _bounds(node: Node, names: tuple[str, ...]) -> dict[str, Node]:
    bounds = node.members(names)
    for each in bounds.values():
        each.number(-FINITE, FINITE)
    return bounds


def _refuse_other_bounds(
    bounds: dict[str, Node], derived: dict[str, Interval], n_events: int
) -> None:
    """A bound on events may be a small difference of large numbers."""
    for name, told in bounds.items():
        least, most = low(derived[name]), high(derived[name])
        scale = max(abs(least), abs(most))
        if name in photons.SINGLE_PHOTONS:
            scale = max(scale, Fraction(n_events))
        spare = TOLERANCE * scale
        spare += BITS_TOLERANCE if name in DIFFERENCES else 0
        if not least - spare <= Fraction(told.value) <= most + spare:
            raise told.refused(f"{_digits(least)} to {_digits(most)}")


def _ledger(certificate: Certificate, secrecy: tuple[Part, ...]) -> tuple[Part, ...]:
    """The lines, if they are those of the theorem, and secrecy's add up to eps_sec."""
    budget = certificate.plan.budget
    correctness = Part("correctness: verification", Fraction(budget.eps_cor), 1)
    expected = (*secrecy, correctness, HEALTH, TAGS)
    if len(certificate.ledger) != len(expected):
        raise CertificateRefused("the ledger", len(certificate.ledger), f"{len(expected)} lines")
    parts = tuple(
        _line(line, part) for line, part in zip(certificate.ledger, expected, strict=True)
    )
    spent = sum(part.epsilon * part.times for part in parts[: len(secrecy)])
    if spent > (1 + LEDGER_TOLERANCE) * Fraction(budget.eps_sec):
        raise CertificateRefused("secrecy of the ledger", float(spent), f"{budget.eps_sec:g}")
    return parts


def _line(line: dict[str, Node], expected: Part) -> Part:
    line["what"].one_of((expected.what,))
    line["times"].integer(expected.times, expected.times)
    told = Fraction(line["epsilon"].inside(0, 1))
    if abs(told - expected.epsilon) > LEDGER_TOLERANCE * expected.epsilon:
        raise line["epsilon"].refused(_digits(expected.epsilon))
    return Part(expected.what, told, expected.times)


def _ends(x: Interval) -> tuple[float, float]:
    return float(low(x)), float(high(x))


def _digits(value: Fraction) -> str:
    return f"{float(value):.17g}"
