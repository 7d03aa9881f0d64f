"""The length of a block of a vendor's keys: by the vendor's word, and by nothing else.

If the keys are uniform and unknown to Eve, as their vendor says, then what is made of them here is
``eps_sec``-secret. Verification has announced t bits of a hash of the block, linear in its bits,
so its bits are not handed out: a universal_2 hash makes fewer of them. Given those t bits, n
uniform ones have a min-entropy of n - t, of which the leftover hash lemma leaves what it leaves in
`proofs.bbm92` (Tomamichel et al., Nat. Commun. 3:634 (2012)).

Half of ``eps_sec`` is for that. The other half holds the verdict on the keys as they came, which
everybody learns: hashed, a biased key looks like any other, so the health tests come before, too.
"""

from dataclasses import dataclass
from math import floor, log2

from qkd_core.errors import PlanRefused
from qkd_core.proofs.correctness import correctness_cost_bits
from qkd_core.proofs.ledger import HEALTH_EPSILON

THEOREM = "vendor-asserted"
ROUNDING_BITS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """From the asserted bits to the length.

    entropy           bits that the vendor asserts to be uniform and unknown to anyone
    eps_hash          half of eps_sec
    secrecy_cost      2 log2(1 / (2 eps_hash)), of the leftover hash lemma
    correctness_cost  of verification
    length            before it is cut to whole words
    """

    entropy: int
    eps_hash: float
    secrecy_cost: float
    correctness_cost: float
    length: float
    n_secret: int


def bounds(n_bits: int, eps_sec: float, eps_cor: float) -> Bounds:
    """Of a block of ``n_bits``.

    Raises PlanRefused for an ``eps_cor`` that no hash can reach, and for an ``eps_sec`` whose half
    does not hold a verdict.
    """
    eps_hash = eps_sec / 2
    if eps_hash < HEALTH_EPSILON:
        raise PlanRefused(f"eps_sec is {eps_sec:g}, allowed is at least {2 * HEALTH_EPSILON:g}")
    secrecy_cost = -2 * log2(2 * eps_hash)
    correctness_cost = correctness_cost_bits(eps_cor, n_bits)
    length = n_bits - secrecy_cost - correctness_cost - ROUNDING_BITS
    return Bounds(
        entropy=n_bits,
        eps_hash=eps_hash,
        secrecy_cost=secrecy_cost,
        correctness_cost=correctness_cost,
        length=length,
        n_secret=max(0, floor(length)),
    )
