"""Tails of the binomial distribution, for planning."""

from math import exp, log1p


def quantile(n: int, p: float, tail: float) -> int:
    """The least k with P(X > k) <= ``tail`` for X binomial (n, p), 0 < p < 1, tail > 0."""
    probability = exp(n * log1p(-p))  # of none
    below, k = probability, 0
    while k < n and 1 - below > tail:
        k += 1
        probability *= (n - k + 1) / k * p / (1 - p)
        below += probability
    return k
