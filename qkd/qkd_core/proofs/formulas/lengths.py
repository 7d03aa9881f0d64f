"""Terms that the lengths of several theorems have in common."""

from math import floor, log, log2, sqrt

from qkd_core.proofs.entropy import HALF, binary_entropy


def error_correction_bits(n: float, errors: float, f: float) -> float:
    """f n h(errors / n): what error correction is taken to announce, 0 for an empty key."""
    return f * n * binary_entropy(errors / n) if n > 0 else 0.0


def correctness_bits(eps_cor: float) -> float:
    """log2(2 / eps_cor): what verification takes, with the bit that it rounds up by."""
    return 1 - log2(eps_cor)


def whole_bits(length: float, phi: float) -> int:
    """The length as a number of bits: never above ``length``, 0 where phi is 1/2."""
    return max(0, floor(length)) if phi < HALF else 0


def fung_gamma(eps: float, ratio: float, sample: float, rest: float) -> float:
    """How much the error rate of ``rest`` events may exceed ``ratio``, that of ``sample`` events.

    0 where it is not defined, which is no bound, and no good one for few errors: see
    `domain.FUNG_ERRORS_MIN`. Source: Fung, Ma, Chau, PRA 81, 012318 (2010), in the form of Lim
    et al. 2014, Eq. (5), with failure probability eps^2.
    """
    if not 0 < ratio < 1 or min(sample, rest) <= 0:
        return 0.0
    inverse, variance = 1 / sample + 1 / rest, ratio * (1 - ratio)
    logarithm = log2(inverse / variance) - 2 * log2(eps)
    return sqrt(inverse * variance / log(2) * max(0.0, logarithm))
