"""Memories that hold their half of a pair until every link of the chain is ready.

N links try at the same time, each attempt succeeds with probability p, q = 1 - p. The longest
wait of all, by inclusion and exclusion:

    E[max] = sum_k C(N, k) (-1)^(k+1) / (1 - q^k)        for two links (3 - 2 p) / (p (2 - p))

Source: Sangouard et al., Rev. Mod. Phys. 83, 33 (2011); Collins et al., PRL 98, 060502
(2007). A cut-off drops the round ``cutoff`` attempts after its first herald. The attempts k_i
after that herald have no memory of it, at least one of them is 0, and

    P(W <= w) = ((1 - q^(w+1))^N - (q - q^(w+1))^N) / (1 - q^N)      W the largest k_i

A memory's coherence shrinks to e^(-t/T2): a phase flip with probability (1 - e^(-t/T2)) / 2.
"""

from dataclasses import dataclass
from math import ceil, comb, exp, log, log1p

import numpy as np
import numpy.typing as npt

NEGLIGIBLE = 1e-12
ATTEMPTS_MAX = 1 << 20  # of one round: an array of so many numbers is made

Numbers = npt.NDArray[np.float64]


def longest_wait(success: float, n_links: int) -> float:
    """E[max], in attempts, of ``n_links`` links."""
    silent, total = 1 - success, 0.0
    for k in range(1, n_links + 1):
        term = comb(n_links, k) / (1 - silent**k)
        total += term if k % 2 else -term
    return total


def coherence(seconds: float, t2_s: float) -> float:
    """What is left of a memory's coherence, 1 at first. Source: pure dephasing, as above."""
    return exp(-seconds / t2_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """From the first attempt of ``n_links`` empty links until all are ready or the cut-off.

    success  p, of one attempt of one link, between 0 and 1, both excluded
    cutoff   attempts after the first herald; None means none
    """

    success: float
    n_links: int
    cutoff: int | None = None

    @property
    def to_first(self) -> float:
        """The mean number of attempts up to the first herald, that included."""
        return 1 / self._any

    @property
    def after_first(self) -> float:
        """The mean number of attempts from the first herald to the end of the round.

        The sum of P(W > w) over all w below the cut-off, its binomials multiplied out.
        """
        q, n = 1 - self.success, self.n_links
        total = 0.0
        for k in range(1, n + 1):
            within = 1.0 if self.cutoff is None else 1 - q ** (k * self.cutoff)
            term = comb(n, k) * (1 - q ** (n - k)) * q**k * within / (1 - q**k)
            total += term if k % 2 else -term
        return total / self._any

    @property
    def completed(self) -> float:
        """The probability that all links become ready."""
        if self.cutoff is None:
            return 1.0
        return float(self._within(np.array([self.cutoff]))[0])

    def kept(self, by_attempt: float) -> float:
        """What is left of the coherence, on average over completed rounds.

        by_attempt  left of one memory after one attempt; both memories of a link wait for the last
        """
        horizon = self._horizon if self.cutoff is None else min(self.cutoff, self._horizon)
        if horizon > ATTEMPTS_MAX:  # so rare that several attempts may be taken for one
            step = ceil(horizon / ATTEMPTS_MAX)
            cutoff = None if self.cutoff is None else self.cutoff // step
            coarse = Round(success=step * self.success, n_links=self.n_links, cutoff=cutoff)
            return coarse.kept(by_attempt**step)
        wait = np.arange(horizon + 1)
        p, q, n, link = self.success, 1 - self.success, self.n_links, by_attempt**2
        newest = p * q**wait
        any_time = p * _geometric_sum(link, q, wait)
        later = any_time - p * link**wait  # without the links that were ready at once
        up_to = any_time**n - later**n
        before = np.where(wait > 0, (any_time - newest) ** n - (later - newest) ** n, 0.0)
        return float(np.sum(up_to - before)) / self._any / self.completed

    @property
    def _any(self) -> float:
        """1 - q^N."""
        return -float(np.expm1(self.n_links * log1p(-self.success)))

    @property
    def _horizon(self) -> int:
        """Attempts that all links are ready after, but for a negligible probability."""
        return ceil(log(NEGLIGIBLE / self.n_links) / log1p(-self.success))

    def _within(self, wait: npt.NDArray[np.int64]) -> Numbers:
        """P(W <= wait)."""
        q = 1 - self.success
        late = q ** (wait + 1.0)
        within: Numbers = ((1 - late) ** self.n_links - (q - late) ** self.n_links) / self._any
        return within


def _geometric_sum(a: float, b: float, n: npt.NDArray[np.int64]) -> Numbers:
    """a^n + a^(n-1) b + ... + b^n."""
    if abs(a - b) < NEGLIGIBLE:
        same: Numbers = (n + 1) * a**n
        return same
    apart: Numbers = (a ** (n + 1.0) - b ** (n + 1.0)) / (a - b)
    return apart


def nested_attempts(success: float, swap: float, n_levels: int) -> float:
    """Mean attempts for 2^n_levels links where each level swaps as soon as both halves are ready.

    A failed swap begins its two halves anew; news takes no time. Exact, by the distribution of
    the time of each level; the usual estimate is (3/2)^n / (p q^n), Sangouard et al. 2011.
    ``swap``: probability that one swap succeeds.
    """
    expected = (1.5 / swap) ** n_levels / success
    n = 1 << ceil(log(64 * expected, 2))
    attempt = np.arange(n)
    ready = np.where(attempt > 0, success * (1 - success) ** (attempt - 1.0), 0.0)
    for _ in range(n_levels):
        both = np.diff(np.cumsum(ready) ** 2, prepend=0.0)
        spectrum = np.fft.rfft(both, 2 * n)
        ready = np.fft.irfft(swap * spectrum / (1 - (1 - swap) * spectrum), 2 * n)[:n]
    return float(attempt @ ready)
