"""Epsilon is spent and summed: the composable cost of all key that one pre-shared secret began.

The parts of a composed protocol are together as far from the ideal one as the sum of their
distances (Portmann and Renner, Rev. Mod. Phys. 94, 025008 (2022)), so the sum covers every block
that was begun, with key or without, and every tag. It is about one link since its pre-shared
secret came: a new secret, carried by hand, rests on nothing before it and begins a new sum.

* A block costs ``eps_sec + eps_cor`` of its plan, whose verification hash is in ``eps_cor``, and
  `HEALTH_EPSILON`.
* A tag costs (L + 1) / 2^128 (Wegman and Carter 1981), L blocks of the longest message that a tag
  may cover. The length of the message at hand would not do: who shortens a long one forges it with
  a probability that goes by the long one. Hash keys are used for many tags and their errors add
  up, one a tag (Portmann, IEEE Trans. Inf. Theory 60, 4383 (2014)).

Sums are integers in units of 2^-128, each part rounded up: floats would lose the small ones.
"""

from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Context
from fractions import Fraction
from math import ceil, inf, nextafter

from qkd_core.types.authentication import MESSAGE_BYTES_MAX, TAG_BYTES
from qkd_core.types.epsilon import EpsilonLimits, Spender
from qkd_core.types.figures import EpsilonFigures
from qkd_core.types.ids import LinkId
from qkd_core.types.plans import SecurityPolicy

UNITS = 1 << 128  # in an epsilon of 1
TAG_UNITS = MESSAGE_BYTES_MAX // TAG_BYTES + 1
TAGS_PER_BLOCK = 8  # plan, clicks, bases; acceptance and confirmation of both ends; one to spare
HEALTH_EPSILON = 2.0**-60  # 9e-19: a false alarm of the health tests of a key, see there


def in_units(epsilon: float) -> int:
    """Rounded up; exact for multiples of 2^-128."""
    return ceil(Fraction(epsilon) * UNITS)


def at_least(units: int) -> float:
    """The least float that is not below ``units``."""
    exact = Fraction(units, UNITS)
    nearest = float(exact)
    return nearest if Fraction(nearest) >= exact else nextafter(nearest, inf)


def shown(epsilon: float) -> str:
    """Three digits for people, rounded up."""
    return f"{Context(prec=3, rounding=ROUND_CEILING).create_decimal_from_float(epsilon):g}"


def block_units(policy: SecurityPolicy) -> int:
    """What a block costs, whatever becomes of it, but for its tags."""
    return in_units(policy.eps_sec) + in_units(policy.eps_cor) + in_units(HEALTH_EPSILON)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """``times`` things of one kind, each of which cost ``units``."""

    what: Spender
    units: int
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What was spent since ``since``, when the pre-shared secret came, and what may be.

    ``alarmed``, ``exhausted``: people were told so.
    """

    entries: tuple[LedgerEntry, ...] = ()
    limits: EpsilonLimits = field(default_factory=EpsilonLimits)
    since: float | None = None
    alarmed: bool = False
    exhausted: bool = False

    def total(self, what: Spender | None = None) -> int:
        """The sum in units, of one kind or of all."""
        return sum(each.units * each.times for each in self.entries if what in (None, each.what))

    def number(self, what: Spender) -> int:
        """How many of one kind there were."""
        return sum(each.times for each in self.entries if each.what is what)

    @property
    def spent(self) -> float:
        """The sum as a number, not below what it is."""
        return at_least(self.total())

    @property
    def alarm_is_due(self) -> bool:
        """Whether the sum has come to the alarm's value and nobody was told."""
        alarm = self.limits.alarm
        return not self.alarmed and alarm is not None and self.total() >= Fraction(alarm) * UNITS

    def allows(self, policy: SecurityPolicy) -> bool:
        """Whether one more block, with its tags, keeps the sum within the limit."""
        limit = self.limits.limit
        more = block_units(policy) + TAGS_PER_BLOCK * TAG_UNITS
        return limit is None or self.total() + more <= Fraction(limit) * UNITS

    def spending(self, what: Spender, units: int, times: int) -> "Ledger":
        """With so much more."""
        others = tuple(each for each in self.entries if (each.what, each.units) != (what, units))
        before = sum(each.times for each in self.entries if each not in others)
        return replace(self, entries=(*others, LedgerEntry(what, units, before + times)))

    def figures(self, link_id: LinkId) -> EpsilonFigures:
        """For status and metrics."""
        return EpsilonFigures(
            link_id=link_id,
            n_blocks=self.number(Spender.BLOCK),
            blocks=at_least(self.total(Spender.BLOCK)),
            n_tags=self.number(Spender.TAG),
            tags=at_least(self.total(Spender.TAG)),
            total=self.spent,
            since=self.since,
            limits=self.limits,
            alarmed=self.alarmed,
            exhausted=self.exhausted,
        )
