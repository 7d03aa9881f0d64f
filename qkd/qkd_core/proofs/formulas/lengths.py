"""Terms that the lengths of several theorems have in common."""

from math import log2

from qkd_core.proofs.entropy import binary_entropy


def error_correction_bits(n: float, errors: float, f: float) -> float:
    """f n h(errors / n): what error correction is taken to announce, 0 for an empty key."""
    return f * n * binary_entropy(errors / n) if n > 0 else 0.0


def correctness_bits(eps_cor: float) -> float:
    """log2(2 / eps_cor): what verification takes, with the bit that it rounds up by."""
    return 1 - log2(eps_cor)
