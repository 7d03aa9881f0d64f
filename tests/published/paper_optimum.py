"""The settings that give most key: Nelder and Mead's search with restarts.

What is found is a lower bound of the optimum. Starts are the same each time.
"""

from collections.abc import Callable

import numpy as np
from paper_links import Lim, OneDecoy, Rusca, TwoDecoys
from scipy.optimize import minimize

NO_KEY = 50.0  # above every -log(rate): a search first looks for any key at all
Point = np.ndarray
# mu_1, mu_2 and shares of blocks of about 1e4, 1e6 and 1e9 bits, as `two_decoys` reads them
STARTS = {
    5: ((-0.5, -1.1, -3.0, 0.2, -0.15), (-0.5, -1.0, -0.4, 0.7, 1.1), (-0.4, -1.2, 0.7, 0.6, 2.5)),
    4: ((-0.6, -1.0, 0.3, 1.1), (-0.4, -0.9, 0.8, 2.5)),
}


def two_decoys(x: Point) -> TwoDecoys:
    """Settings that are in order for every ``x``: shares by the logistic function."""
    s = (1 / (1 + np.exp(-x))).tolist()
    return TwoDecoys(
        mu_1=1.2 * s[0],
        mu_2=2.5e-4 + 0.9 * s[1] * (1.2 * s[0] - 5e-4),
        p_1=0.002 + 0.996 * s[2],
        p_2=(0.998 - 0.996 * s[2]) * (0.002 + 0.996 * s[3]),
        p_key=s[4],
    )


def one_decoy(x: Point) -> OneDecoy:
    s = (1 / (1 + np.exp(-x))).tolist()
    return OneDecoy(mu_1=1.2 * s[0], mu_2=1.2 * s[0] * s[1], p_1=s[2], p_key=s[3])


class Search:
    """The best settings of one link at one distance after another, each from the last one's."""

    def __init__(self, link: Lim | Rusca, settings: Callable[[Point], TwoDecoys | OneDecoy]):
        self._link, self._settings = link, settings
        self._dimensions = 5 if isinstance(link, Lim) else 4
        self._last: Point | None = None

    def rate(self, where: float, restarts: int = 2) -> float:
        """Key per pulse or per second at ``where``; 0 where none is found."""
        rng = np.random.default_rng(7)
        starts = [np.array(start) for start in STARTS[self._dimensions]]
        starts += [rng.normal(0, 1.5, self._dimensions) for _ in range(restarts)]
        if self._last is not None:
            starts.append(self._last)
        found = [self._climb(where, start) for start in starts]
        return self._settled(where, min(found, key=lambda each: each.fun).x)

    def next(self, where: float) -> float:
        """As `rate`, from the last settings alone: for a curve, point after point."""
        if self._last is None:
            return self.rate(where)
        return self._settled(where, self._climb(where, self._last).x)

    def _settled(self, where: float, start: Point) -> float:
        """The rate after one more climb, which begins the next point's."""
        best = self._climb(where, start)
        if best.fun >= NO_KEY:
            return 0.0
        self._last = best.x
        return float(np.exp(-best.fun))

    def _climb(self, where, start):
        options = {"maxiter": 500, "xatol": 1e-4, "fatol": 1e-7, "adaptive": True}
        return minimize(self._cost, start, args=(where,), method="Nelder-Mead", options=options)

    def _cost(self, x: Point, where: float) -> float:
        if np.abs(x).max() > 12:
            return 2 * NO_KEY + float(np.abs(x).max())
        length, spent = self._link.key(where, self._settings(x))
        if length < 1:
            return NO_KEY + 1 - length / self._link.n_key
        return float(np.log(spent / length))


def search(link: Lim | Rusca) -> Search:
    return Search(link, two_decoys if isinstance(link, Lim) else one_decoy)


def reach(rate: Callable[[float], float], low: int, high: int) -> int:
    """The last whole number from ``low`` on, below ``high``, at which ``rate`` is above 0."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rate(middle) > 0 else (low, middle)
    return low
