"""Tails and limits once more, in 30 digits and term by term: slow, and easy to see through."""

import mpmath as mp

DIGITS = 30
DROP = mp.mpf(10) ** -20  # of the sum: terms that small end it


def at_least(k, mean, n):
    """P(X >= k) for X binomial, k above the mean."""
    with mp.workdps(DIGITS):
        p = mp.mpf(mean) / n
        odds = p / (1 - p)
        return _summed(_log_term(k, p, n), ((mp.mpf(n - j) / (j + 1)) * odds for j in range(k, n)))


def at_most(k, mean, n):
    """P(X <= k), k below the mean."""
    with mp.workdps(DIGITS):
        p = mp.mpf(mean) / n
        odds = (1 - p) / p
        ratios = ((mp.mpf(j) / (n - j + 1)) * odds for j in range(k, 0, -1))
        return _summed(_log_term(k, p, n), ratios)


def hypergeometric_at_most(x, errors, k, n):
    """P(at most x of ``errors`` among n + k are in a sample of k), below the mean."""
    with mp.workdps(DIGITS):
        top, least = min(x, errors, k), max(0, errors - n)
        if top < least:
            return mp.mpf(0)
        log_term = _log_choose(errors, top) + _log_choose(n + k - errors, k - top)
        ratios = (
            mp.mpf(j) * (n - errors + j) / ((errors - j + 1) * (k - j + 1))
            for j in range(top, least, -1)
        )
        return _summed(log_term - _log_choose(n + k, k), ratios)


def _summed(log_first, ratios):
    term = total = mp.exp(log_first)
    for ratio in ratios:
        term *= ratio
        total += term
        if term < total * DROP:
            break
    return total


def _log_term(k, p, n):
    return _log_choose(n, k) + k * mp.log(p) + (n - k) * mp.log1p(-p)


def _log_choose(n, k):
    return mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)
