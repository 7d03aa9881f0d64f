"""What a theorem makes of a plan, in intervals."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor

from qkd_certify.intervals import Interval, exactly, high, larger, log2, low
from qkd_certify.refusal import CertificateRefused

FIELD_BITS = 128  # of the verification hash: a polynomial over GF(2^128)
ROUNDING_BITS = 1
HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Part:
    """``times`` events of the ledger, of which each has the probability ``epsilon``."""

    what: str
    epsilon: Fraction
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What the thresholds of a plan allow.

    bounds   every intermediate and the length, by the names that they have in certificates
    phi      the phase error rate; at 1/2 there is no key
    length   of the key, before it is cut to whole words
    """

    bounds: dict[str, Interval]
    phi: Interval
    length: Interval

    @property
    def n_secret_max(self) -> int:
        """The bits that are certain."""
        return max(0, floor(low(self.length))) if high(self.phi) < HALF else 0


def correctness_cost(eps_cor: float, n_bits_max: int) -> Interval:
    """log2(2 / eps_cor), or the verification hash if longer. Source: Lim et al. 2014, Eq. (1).

    Keys of L blocks of 128 bits, their length among them, collide with at most L / 2^128; cut to t
    bits with at most 2^-t + L / 2^128. Raises CertificateRefused where no t will do.
    """
    n_blocks = -(-n_bits_max // FIELD_BITS) + 1
    left = Fraction(eps_cor) - Fraction(n_blocks, 1 << FIELD_BITS)
    if left <= Fraction(1, 1 << FIELD_BITS):
        raise CertificateRefused(
            "plan.policy.eps_cor", eps_cor, f"what a hash of {n_bits_max} bits can reach"
        )
    n_hash = next(t for t in range(1, FIELD_BITS + 1) if Fraction(1, 1 << t) <= left)
    return larger(1 - log2(exactly(eps_cor)), exactly(n_hash))
