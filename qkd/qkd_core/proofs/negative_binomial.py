"""How many events there can be of a kind nobody counts, from those of a kind that is counted.

Each of some events is independently of the counted kind with probability p, else of the other one.
However many there are, T, and whoever chose T: that more than u are of the other kind while at most
m are of the counted one has the probability

    P(B <= min(m, T - u - 1)),   B binomial with T trials.

For T <= u + m it is P(at least u + 1 of T are of the other kind), which grows with T; from
T = u + m + 1 on it is P(B <= m), which falls. So it is at most P(B <= m) with u + m + 1 trials: the
tail of the negative binomial distribution, that more than u failures come before success m + 1.
"""

from fractions import Fraction

from qkd_core.proofs.clopper_pearson import mean_at_most


def others_at_most(counted: int, p: Fraction, eps: float, most: int) -> int:
    """The least u that the other kind exceeds with at most ``eps`` while ``counted`` are enough.

    At most ``most``, beyond which it is not known. 0 < p < 1, 0 < eps < 1/4. Exact but for the
    rounding of `clopper_pearson`, which is outward.

    B with T trials is at most ``counted`` with at most ``eps`` where T p is not below the greatest
    mean for T; that mean grows with T. From above, T = ceil(mean / p) stays enough and comes down
    until it stands still, next to the least T.
    """
    enough = counted + most + 1
    if not _enough(enough, counted, p, eps):
        return most
    while (nearer := _ceil(mean_at_most(counted, enough, eps), p)) < enough:
        enough = nearer
    while enough > counted + 1 and _enough(enough - 1, counted, p, eps):
        enough -= 1
    return enough - counted - 1


def _enough(trials: int, counted: int, p: Fraction, eps: float) -> bool:
    """Do so many trials leave at most ``eps`` to at most ``counted`` successes?"""
    return trials * p >= Fraction(mean_at_most(counted, trials, eps))


def _ceil(mean: float, p: Fraction) -> int:
    return -(-Fraction(mean) // p)
