"""The binomial distribution: for planning, and exactly for the bounds of a proof.

Logarithms of probabilities come from Stirling's series and the deviance, never from differences
of large ``lgamma``: with n = k + j trials, mean m = n p and m' = n - m,

    ln P(k) = 1/2 ln(n / (2 pi k j)) + s(n) - s(k) - s(j) - D(k, m) - D(j, m')
    D(x, m) = x ln(x / m) + m - x,      s(n) = ln n! - ln(sqrt(2 pi n) (n / e)^n)

Source: Loader, "Fast and accurate computation of binomial probabilities" (2000).
"""

from math import exp, factorial, log, log1p, pi

EXACT_BELOW = 16  # s(n) from the factorial itself
DOUBLE = 2.0**-52  # the distance of 1 from the next double
ROUNDINGS = 4096.0  # in all terms, many times over: see `log_error`


def quantile(n: int, p: float, tail: float) -> int:
    """The least k with P(X > k) <= ``tail`` for X binomial (n, p), 0 < p < 1, tail > 0."""
    probability = exp(n * log1p(-p))  # of none
    below, k = probability, 0
    while k < n and 1 - below > tail:
        k += 1
        probability *= (n - k + 1) / k * p / (1 - p)
        below += probability
    return k


def log_probability(k: int, mean: float, n: int) -> float:
    """ln P(X = k), 0 <= k <= n, for X binomial with ``n`` trials and 0 < ``mean`` < n."""
    j = n - k
    log_p = _stirling_error(n) - _stirling_error(k) - _stirling_error(j)
    log_p -= _deviance(k, mean) + _deviance(j, n - mean)
    if k == 0 or j == 0:
        return log_p  # the square roots of n and of k or j cancel
    return log_p + 0.5 * log(n / (2 * pi * k * j))


def log_error(k: int, mean: float) -> float:
    """More than the rounding error of `log_probability` (k, mean, n), for n up to 2^50.

    Both terms of the deviance are right to a few units in their last place, and at most of the
    size of m - x or, where x is more than twice m, of x ln(x / m): below 64 (x - m) as long as
    m > x e^-32. A mean that is off by half a unit in its last place, as n - m may be, shifts D by
    less than half a unit of m - x. All other terms are below 64 in size.
    """
    return ROUNDINGS * DOUBLE * (1.0 + abs(k - mean))


def _deviance(x: int, mean: float) -> float:
    """D(x, mean) for x >= 0 and mean > 0."""
    difference = mean - x
    if x > 2 * mean:  # a small mean would drown in 1 + difference / x
        return difference + x * log(x / mean)
    return difference - x * log1p(difference / x) if x else mean


def _stirling_error(n: int) -> float:
    """s(n), and 0 for n = 0, to 1e-14. Source: the Stirling series (NIST DLMF 5.11.1)."""
    if n == 0:
        return 0.0
    if n < EXACT_BELOW:
        return log(factorial(n)) - (n + 0.5) * log(n) + n - 0.5 * log(2 * pi)
    inverse = 1 / (n * n)
    series = 1 / 360 - (1 / 1260 - (1 / 1680 - inverse / 1188) * inverse) * inverse
    return (1 / 12 - series * inverse) / n
