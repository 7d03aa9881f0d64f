"""Random sampling without replacement: from errors seen in a sample to errors outside it."""

from math import exp, inf, lgamma, log

NEGLIGIBLE = 45.0  # terms below e^-45 of the largest do not change a double


def errors_outside_max(x: int, k: int, n: int, log_eps: float) -> int:
    """The most errors that can lie outside a sample of ``k`` without ``x`` being too few in it.

    Of n + k items, K are errors; a random sample of k holds at most x of them with probability
    P(K). Returns max {K : P(K) > eps} - x, where ``log_eps`` is the natural logarithm of eps: more
    errors than that outside the sample have at most the probability eps. Exact but for the
    rounding of lgamma. Source: the hypergeometric distribution.
    """
    low, high = min(x, n + k), n + min(x, k)  # P(low) = 1; more than `high` cannot be
    while low < high:
        middle = (low + high + 1) // 2
        if _log_at_most(x, middle, k, n) > log_eps:
            low = middle
        else:
            high = middle - 1
    return low - x


def _log_at_most(x: int, errors: int, k: int, n: int) -> float:
    """ln P[a sample of k of n + k items, ``errors`` of them wrong, holds at most x wrong]."""
    top = min(x, errors, k)
    if top < errors - n:
        return -inf
    # downwards from the largest possible value; each term from the one above it
    term = _log_choose(errors, top) + _log_choose(n + k - errors, k - top) - _log_choose(n + k, k)
    largest, terms = term, [term]
    for j in range(top, max(0, errors - n), -1):
        term += log(j) + log(n - errors + j) - log(errors - j + 1) - log(k - j + 1)
        largest = max(largest, term)
        terms.append(term)
        if term < largest - NEGLIGIBLE:
            break
    return largest + log(sum(exp(t - largest) for t in terms))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
