"""Keys of a vendor's box: the length that follows from the vendor's word, which nobody can check.

Verification has announced a hash of the keys, and the key is what a universal hash makes of them:
of n bits that the vendor says are secret, the cost of that hash and of secrecy is taken off. Source
of the latter: the leftover hash lemma, as in `pairs`.
"""

from fractions import Fraction

from qkd_certify.intervals import exactly, log2
from qkd_certify.limits import Budget, VendorLimits
from qkd_certify.theorem import ROUNDING_BITS, Derived, Part, correctness_cost

BOUNDS = ("entropy", "eps_hash", "secrecy_cost", "correctness_cost", "length")
EPS_HASH_SHARE = Fraction(1, 2)  # of eps_sec; the rest holds the verdict on the keys as they came
VERDICT = Part("secrecy: the verdict on the vendor's keys", Fraction(1, 1 << 60), 1)


def secrecy(budget: Budget) -> tuple[Part, ...]:
    """The parts of eps_sec."""
    return Part("secrecy: privacy amplification", _eps_hash(budget), 1), VERDICT


def vendor_asserted(limits: VendorLimits, budget: Budget, _slack: Fraction) -> Derived:
    """Nothing is estimated, so nothing is rounded to whole events."""
    n_bits = limits.n_key_max
    secrecy_cost = -2 * log2(2 * exactly(_eps_hash(budget)))
    cost = correctness_cost(budget.eps_cor, n_bits)
    length = n_bits - secrecy_cost - cost - ROUNDING_BITS
    return Derived(
        bounds={
            "entropy": exactly(n_bits),
            "eps_hash": exactly(_eps_hash(budget)),
            "secrecy_cost": secrecy_cost,
            "correctness_cost": cost,
            "length": length,
        },
        phi=exactly(0),
        length=length,
    )


def _eps_hash(budget: Budget) -> Fraction:
    return EPS_HASH_SHARE * Fraction(budget.eps_sec)
