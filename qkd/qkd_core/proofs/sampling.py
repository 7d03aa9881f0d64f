"""Random sampling without replacement: from errors seen in a sample to errors outside it."""

from dataclasses import dataclass
from math import exp

from qkd_core.proofs.binomial import log_error, log_probability


@dataclass(frozen=True, slots=True)
class Sampled:
    """How many items a random sample takes, and how many it leaves."""

    inside: int
    outside: int


def errors_outside_max(x: int, k: int, n: int, log_eps: float) -> int:
    """The most errors that can lie outside a sample of ``k`` without ``x`` being too few in it.

    Of n + k items, K are errors; a random sample of k holds at most x of them with probability
    P(K). Returns max {K : P(K) > eps} - x, where ``log_eps`` is the natural logarithm of eps,
    below 1/2: more errors than that outside the sample have at most the probability eps. Rounded
    outward: P(K) is never taken for less than it is. Source: the hypergeometric distribution.
    """
    low, high = min(x, n + k), n + min(x, k)  # P(low) = 1; more than `high` cannot be
    while low < high:
        middle = (low + high + 1) // 2
        if _likelier(x, middle, Sampled(k, n), log_eps):
            low = middle
        else:
            high = middle - 1
    return low - x


def _likelier(x: int, errors: int, sampled: Sampled, log_eps: float) -> bool:
    """Is P[at most x of ``errors`` wrong items are in the sample] more than eps (below 1/2)?"""
    k, n = sampled.inside, sampled.outside
    top = min(x, errors, k)
    if top >= k * errors / (n + k) + 1:
        return True  # the median of the distribution lies within one of its mean
    if top < errors - n:
        return False
    # downwards from the top, where the terms are largest; each from the one above it, over eps
    share = k / (n + k)
    right = n + k - errors
    log_term = log_probability(top, errors * share, errors) - log_eps
    log_term += log_probability(k - top, right * share, right) - log_probability(k, k, n + k)
    log_term += log_error(top, errors * share) + log_error(k - top, right * share) + log_error(k, k)
    term, total = exp(min(log_term, 1.0)), 0.0
    for j in range(top, max(0, errors - n) - 1, -1):
        total += term
        ratio = j / (errors - j + 1) * (n - errors + j) / (k - j + 1)  # falls with j
        term *= ratio
        if total > 1 or (ratio < 1 and total + term / (1 - ratio) <= 1):
            break
    return total > 1
