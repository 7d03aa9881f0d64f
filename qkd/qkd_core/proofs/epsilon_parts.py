"""How a block's epsilons are split: each line an event that the claim excludes.

eps_sec and eps_cor are agreed; their lines add up to them, see `equal_part`. The verdict on the
key's health, and what may be forged of the block's messages, are lines of their own, on top of
both; `proofs.ledger` has the sums of a link.
"""

from fractions import Fraction
from math import nextafter

from qkd_core.proofs.ledger import HEALTH_EPSILON, TAG_UNITS, TAGS_PER_BLOCK, at_least
from qkd_core.types.evaluation import Spent
from qkd_core.types.plans import SecurityPolicy


def equal_part(eps: float, parts: int) -> float:
    """The largest double of which ``parts`` add up to no more than ``eps``, exactly."""
    part = eps / parts
    return part if parts * Fraction(part) <= Fraction(eps) else nextafter(part, 0)


def besides_secrecy(policy: SecurityPolicy) -> tuple[Spent, ...]:
    """The lines that do not depend on the theorem."""
    return (
        Spent(what="correctness: verification", epsilon=policy.eps_cor, times=1),
        Spent(what="health: the verdict on the key", epsilon=HEALTH_EPSILON, times=1),
        Spent(what="authentication: tags", epsilon=at_least(TAG_UNITS), times=TAGS_PER_BLOCK),
    )
