"""How many bits of a verification hash make two keys equal except with ``eps_cor``."""

from fractions import Fraction
from math import log2

from qkd_core.errors import PlanRefused

FIELD_BITS = 128


def verification_bits(eps_cor: float, n_bits_max: int) -> int:
    """The least t with 2^-t + L / 2^128 <= eps_cor, for keys of at most ``n_bits_max`` bits.

    L is the number of 128-bit blocks of such a key and its length. Exact arithmetic. Raises
    PlanRefused when a field of 2^128 elements is too small for ``eps_cor``.
    """
    left = Fraction(eps_cor) - Fraction(-(-n_bits_max // FIELD_BITS) + 1, 2**FIELD_BITS)
    if left <= Fraction(1, 2**FIELD_BITS):
        raise PlanRefused(f"eps_cor {eps_cor:g} is too small for keys of {n_bits_max} bits")
    n_bits = 1
    while Fraction(1, 2**n_bits) > left:
        n_bits += 1
    return n_bits


def correctness_cost_bits(eps_cor: float, n_bits_max: int) -> float:
    """Bits that verification takes from the key: log2(2 / eps_cor), or the hash if longer.

    Source: Lim et al. 2014, Eq. (1), last term. It pays for ceil(log2(1 / eps_cor)) bits.
    """
    return max(1 - log2(eps_cor), float(verification_bits(eps_cor, n_bits_max)))
