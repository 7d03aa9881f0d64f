"""gamma: how far an error rate may lie above that of a sample, by an approximation.

Source: Fung, Ma, Chau, PRA 81, 012318 (2010), in the form of Lim et al. 2014, Eq. (5).
"""

from math import log, log2, sqrt

FUNG_ERRORS_MIN = 20  # fewer errors in the sample, and gamma fails more often than it says


def fung_gamma(eps: float, ratio: float, sample: float, rest: float) -> float:
    """How much the error rate of ``rest`` events may exceed ``ratio``, that of ``sample`` events.

    With failure probability eps^2. 0 where it is not defined, which is no bound.
    """
    if not 0 < ratio < 1 or min(sample, rest) <= 0:
        return 0.0
    inverse, variance = 1 / sample + 1 / rest, ratio * (1 - ratio)
    logarithm = log2(inverse / variance) - 2 * log2(eps)
    return sqrt(inverse * variance / log(2) * max(0.0, logarithm))
