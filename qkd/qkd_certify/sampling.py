"""Exact sampling without replacement: how many errors may lie outside a sample."""

from fractions import Fraction
from functools import lru_cache

from qkd_certify.intervals import Interval, between, exactly, high, log, log_choose, low

UNIT = 1 << 128  # of the sums
NEGLIGIBLE = 1 << 40


@lru_cache(maxsize=64)  # as in `binomial`
def errors_outside(
    seen: int, sizes: tuple[int, int], eps: Fraction, slack: Fraction
) -> tuple[int, int]:
    """The most errors outside a sample with at most ``seen`` in it; least and most it can be.

    ``sizes``: items in the sample, and outside it; K of all are errors. The result is the largest
    K for which a random sample holds at most ``seen`` of them with more than the probability eps,
    less ``seen``. What it can be: where the logarithm of that probability is within ``slack``,
    or the rounding, of that of eps. 0 < eps < 1/2.
    """
    sampled, outside = sizes
    if seen >= sampled:
        return outside, outside
    log_eps = log(exactly(eps)) + between(-slack, slack)
    certain, most = seen, outside + seen
    while certain < most:
        middle = (certain + most + 1) // 2
        if _more_likely(seen, middle, sizes, log_eps):
            certain = middle
        else:
            most = middle - 1
    possible = certain
    while possible < outside + seen and _more_likely(seen, possible + 1, sizes, log_eps) is None:
        possible += 1
    return certain - seen, possible - seen


def _more_likely(seen: int, errors: int, sizes: tuple[int, int], log_eps: Interval) -> bool | None:
    """Is P(at most ``seen`` of ``errors`` in the sample) more than eps? None: within rounding.

    Terms are summed downwards from the last one, and fall faster and faster. Where they do not
    fall at first, the likeliest number is among them: yes, which is also the careful answer.
    """
    sampled, outside = sizes
    log_last = log_choose(errors, seen) + log_choose(sampled + outside - errors, sampled - seen)
    log_last -= log_choose(sampled + outside, sampled)
    term = total = UNIT
    left_out = steps = 0
    for j in range(seen, max(0, errors - outside), -1):
        over = j * (outside - errors + j)
        under = (errors - j + 1) * (sampled - j + 1)  # of the next term to this one
        if over >= under:
            return True
        if term < NEGLIGIBLE:
            left_out = (term + steps) * over // (under - over) + 1
            break
        term = term * over // under
        total += term
        steps += 1
    lost = steps * (steps + 1) // 2 + left_out
    if low(log_last + log(exactly(Fraction(total, UNIT))) - log_eps) > 0:
        return True
    if high(log_last + log(exactly(Fraction(total + lost, UNIT))) - log_eps) <= 0:
        return False
    return None
