"""How many bits of a verification hash make two keys equal except with ``eps_cor``."""

from math import log2

from qkd_core.errors import PlanRefused

FIELD_BITS = 128


def verification_bits(eps_cor: float, n_bits_max: int) -> int:
    """The least t with 2^-t + L / 2^128 <= eps_cor, for keys of at most ``n_bits_max`` bits.

    L is the number of 128-bit blocks of such a key and its length. Exact arithmetic. Raises
    PlanRefused when a field of 2^128 elements is too small for ``eps_cor``.
    """
    blocks = -(-n_bits_max // FIELD_BITS) + 1
    numerator, denominator = eps_cor.as_integer_ratio()
    left = (numerator << FIELD_BITS) - blocks * denominator  # over 2^128 denominators
    if left <= denominator:
        raise PlanRefused(f"eps_cor {eps_cor:g} is too small for keys of {n_bits_max} bits")
    inverse = -(-(denominator << FIELD_BITS) // left)  # rounded up
    return max(1, (inverse - 1).bit_length())


def correctness_cost_bits(eps_cor: float, n_bits_max: int) -> float:
    """Bits that verification takes from the key: log2(2 / eps_cor), or the hash if longer.

    Source: Lim et al. 2014, Eq. (1), last term. It pays for ceil(log2(1 / eps_cor)) bits.
    """
    return max(1 - log2(eps_cor), float(verification_bits(eps_cor, n_bits_max)))
