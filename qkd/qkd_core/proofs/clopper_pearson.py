"""From a count to its mean: exact limits for sums of independent events.

The mean of X, the number of successes of at most ``n`` independent trials with *unequal*
probabilities, is bounded by the binomial distribution with ``n`` trials and the same mean: its
tails one or more from the mean are not below those of X (Hoeffding, Ann. Math. Stat. 27, 713
(1956), theorem 5), and at a fixed mean they grow with the number of trials (Anderson and Samuels,
Proc. 5th Berkeley Symp. 1, 1 (1967)). Clopper and Pearson, Biometrika 26, 404 (1934), turn the
tail into a limit of the mean. "One or more" is kept by clipping: a least mean is at most
count - 1, a greatest at least count + 1.

The tail. With r_0 < 1 the ratio of the probabilities of k + 1 and k successes, and odds z = p/q,

    P(X >= k) = P(k) / (1 - c_1 / (1 + d_1 / (1 - c_2 / (1 + d_2 / (1 - ...)))))
    c_i = (n - k - i + 1)(k + i - 1) z / ((k + 2i - 2)(k + 2i - 1)),   c_1 = (n - k) z / (k + 1)
    d_i = i (n + i) z / ((k + 2i - 1)(k + 2i))

which is Gauss's continued fraction of 2F1(1, k - n; k + 1; -z); it ends with c = 0. Call w_i =
c_i / (1 + d_i / (1 - w_(i+1))). All c_i fall from c_1 < 1 on and d_i > 0, so 0 <= w_i <= c_i, and
w_i falls as w_(i+1) grows: the ends 0 and c of the range of any w_m lead to two numbers that
enclose the tail. Source of the fraction: Uspensky, Introduction to Mathematical Probability
(1937), chapter III (after Markov).

Every figure is rounded outward: the tail is enlarged by the gap between the two numbers and by
`binomial.log_error`, so that the limits hold as they stand, not only up to rounding.
"""

from dataclasses import dataclass
from math import exp, log, pi, sqrt

from qkd_core.proofs.binomial import log_error, log_probability

FIRST_DEPTH = 8  # levels of the fraction; doubled until the two numbers agree
AGREE = 1e-10  # relative
CLOSE = 1e-8  # of the mean of either outcome: the last step; the next would be its square
OUTWARD = 1e-14  # relative: what makes up for rounding after it, doubled until it does
STEPS = 50  # of Newton's method, at most; it takes 3 to 10


def mean_at_least(count: int, n: int, eps: float) -> float:
    """The largest mean with which ``count`` or more successes have at most the chance ``eps``.

    Of at most ``n`` independent trials, 0 <= count <= n, 0 < eps < 1/4. 0 where there is none.

    Newton's method in ln(mean), of which ln P is a concave function: it comes from below.
    """
    if count <= 1:
        return 0.0
    log_eps, mean = log(eps), min(_guess(count, n, eps, -1), count - 1.0)
    for _ in range(STEPS):
        tail = _at_least(count, mean, n)
        step = (log_eps - tail.log_max) / (count * tail.last_share)
        mean = min(mean * exp(step), count - 1.0)
        if abs(step) < CLOSE * min(1.0, n / mean - 1) + OUTWARD:
            break
    outward = OUTWARD
    while _at_least(count, mean, n).log_max > log_eps:
        mean *= 1 - outward
        outward *= 2
    return mean


def mean_at_most(count: int, n: int, eps: float) -> float:
    """The smallest mean with which ``count`` or fewer successes have at most the chance ``eps``.

    As in `mean_at_least`; ``n`` where there is none. Newton's method in the mean, from above.
    """
    if count >= n - 1:
        return float(n)
    log_eps, mean = log(eps), _guess(count, n, eps, 1)
    mean = min(max(mean, count + 1.0), (count + 1 + n) / 2)
    nearest = n * (1 - OUTWARD)  # to n, from where on it is n
    for _ in range(STEPS):
        tail = _at_most(count, mean, n)
        step = (tail.log_max - log_eps) * (n - mean) / ((n - count) * tail.last_share)
        mean = min(max(mean + min(step, (n - mean) / 2), count + 1.0), nearest)
        if abs(step) < CLOSE * min(mean, n - mean) + OUTWARD * mean:
            break
    outward = OUTWARD
    while mean < nearest and _at_most(count, mean, n).log_max > log_eps:
        mean *= 1 + outward
        outward *= 2
    return mean if mean < nearest else float(n)


@dataclass(frozen=True, slots=True)
class _Tail:
    """``log_max``: ln of the tail, never too small. ``last_share``: its last term over it."""

    log_max: float
    last_share: float


def _at_least(k: int, mean: float, n: int) -> _Tail:
    """P(X >= k) for X binomial with ``n`` trials and 0 < ``mean`` < k <= n."""
    return _tail(log_probability(k, mean, n) + log_error(k, mean), k, n - k, mean / (n - mean))


def _at_most(k: int, mean: float, n: int) -> _Tail:
    """P(X <= k), 0 <= k < ``mean`` < n: P(X >= k) of the failures."""
    return _tail(log_probability(k, mean, n) + log_error(k, mean), n - k, k, (n - mean) / mean)


def _tail(log_last: float, k: int, rest: int, odds: float) -> _Tail:
    """The tail from k of k + rest on, by the fraction of the module's docstring."""
    depth, below, above = FIRST_DEPTH, 0.0, 1.0
    while above - below > AGREE * (1 - above):
        below, above = _enclosed(k, rest, odds, min(depth, rest))
        if depth >= rest:
            break
        depth *= 2
    return _Tail(log_max=log_last - log(1 - above), last_share=1 - above)


def _enclosed(k: int, rest: int, odds: float, depth: int) -> tuple[float, float]:
    """w_1 from below and from above, with w_(depth + 1) between 0 and c_(depth + 1)."""

    def c(i: int) -> float:
        return (rest - i + 1) * (k + i - 1) / ((k + 2 * i - 2) * (k + 2 * i - 1)) * odds

    ends = [0.0, c(depth + 1)]
    for i in range(depth, 0, -1):
        d_i = i * (k + rest + i) / ((k + 2 * i - 1) * (k + 2 * i)) * odds
        c_i = c(i)
        ends = [c_i / (1 + d_i / (1 - w)) for w in ends]
    return min(ends), max(ends)


def _guess(count: int, n: int, eps: float, sign: int) -> float:
    """About where the limit is, above (1) or below (-1): Wilson and Hilferty's cube of a normal.

    Of a Poisson variable, with the binomial's smaller spread.
    """
    nats = -log(eps)
    z = sqrt(max(2 * nats - log(4 * pi * nats), 0.5))  # of the normal tail, roughly
    counted = count + 1 if sign > 0 else count
    spread = z / 3 * sqrt(max(1 - count / n, 0.0) / counted)
    return float(max(counted * max(1 - 1 / (9 * counted) + sign * spread, 0.02) ** 3, 1e-9))
