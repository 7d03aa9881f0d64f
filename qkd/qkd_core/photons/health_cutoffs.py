"""From which value on a health test fails, for a given probability of a false alarm.

None of these is an approximation by a normal distribution: false alarms are to be so rare that
only exact sums and bounds say anything about them.
"""

from functools import lru_cache
from math import ceil, comb, inf, log, log2, sqrt

WINDOW = 512  # SP 800-90B, 4.4.2, for samples that are not binary
Z_99 = 2.576  # SP 800-90B, 6.3.1: upper bound of a 99 % confidence interval


@lru_cache(maxsize=64)
def repetition_cutoff(alpha: float, h: float) -> int:
    """This many equal samples in a row are too many.

    For a source with ``h`` bits of min-entropy a sample, in each place with probability at most
    ``alpha``. Source: NIST SP 800-90B, 4.4.1.
    """
    return 1 + ceil(-log2(alpha) / h)


@lru_cache(maxsize=64)
def proportion_cutoff(alpha: float, h: float, window: int = WINDOW) -> int:
    """This many samples of a window that equal its first one, itself included, are too many.

    For a source with ``h`` bits of min-entropy a sample, in each window with probability at most
    ``alpha``. Source: NIST SP 800-90B, 4.4.2, where the first sample is counted as if it might
    differ from itself; without it the others are binomial (window - 1, 2^-h).
    """
    others = window - 1
    return 2 + _least_beyond(others, 2.0**-h, alpha)


def _least_beyond(n: int, p: float, tail: float) -> int:
    """The least k with P(X > k) <= ``tail`` for X binomial (n, p), n below 1,000.

    Summed from the far end: tails far below the precision of 1 come out right.
    """
    beyond = 0.0
    for k in range(n, 0, -1):
        beyond += comb(n, k) * p**k * (1 - p) ** (n - k)
        if beyond > tail:
            return k
    return 0


@lru_cache(maxsize=64)
def count_cutoff(n: int, p: float, alpha: float) -> int:
    """The least k > n p with exp(-n D(k/n || p)) <= ``alpha``; n + 1 when there is none.

    At least that many of n independent events of probability ``p`` happen with probability at
    most ``alpha``. D is the relative entropy, in nats. Source: Hoeffding, "Probability
    inequalities for sums of bounded random variables", JASA 58 (1963), Theorem 1, Eq. (2.1).
    """
    needed = -log(alpha)
    low, high = int(n * p), n + 1  # the bound never suffices at the first, does at the second
    while high - low > 1:
        k = (low + high) // 2
        if _divergence(k, n, p) >= needed:
            high = k
        else:
            low = k
    return high


def _divergence(k: int, n: int, p: float) -> float:
    """n D(k/n || p), 0 < k <= n."""
    rest = (n - k) * log((n - k) / (n * (1 - p))) if k < n else 0.0
    return k * log(k / (n * p)) + rest


def min_entropy(most: int, n: int) -> float:
    """Bits a sample, from the count of the most common value among ``n``.

    Source: NIST SP 800-90B, 6.3.1, most common value estimate; at the bound of 99 % confidence.
    """
    if n <= 1:
        return inf
    p = most / n
    return -log2(min(1.0, p + Z_99 * sqrt(p * (1 - p) / (n - 1))))
