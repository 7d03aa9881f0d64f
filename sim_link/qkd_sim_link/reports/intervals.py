"""Confidence intervals of counts, of means over blocks, and of quantiles.

*Of a proportion*: Clopper and Pearson, as `qkd_core.proofs.clopper_pearson` has it (its clipping
makes it a little wider). *Of a Poisson mean*: the same with so many trials that they are a Poisson
process; Garwood, Biometrika 28, 437 (1936). *Of a mean over blocks*: Student's t, which takes the
blocks' own spread, whatever it comes from: fading, dead time, afterpulses. *Of a quantile*: from
order statistics, whatever the law; David and Nagaraja, Order Statistics, 3rd edition, section 7.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from mpmath import betainc  # type: ignore[import-untyped]

from qkd_core.proofs.clopper_pearson import mean_at_least, mean_at_most

BLOCKS_MIN = 5  # from here on the spread of blocks says more than a law of their counts
TRIALS = 1 << 60  # of a Poisson process
HALVINGS = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``low`` to ``high``; ``method`` for people."""

    low: float
    high: float
    method: str

    def scaled(self, factor: float) -> "Interval":
        return Interval(factor * self.low, factor * self.high, self.method)


def of_proportion(count: int, n: int, confidence: float) -> Interval:
    """Of the probability behind ``count`` of ``n``; all of 0 to 1 where ``n`` is 0."""
    eps = (1 - confidence) / 2
    method = "Clopper-Pearson"
    if n == 0:
        return Interval(0.0, 1.0, method)
    return Interval(mean_at_least(count, n, eps) / n, mean_at_most(count, n, eps) / n, method)


def of_poisson(count: int, confidence: float) -> Interval:
    """Of the mean of a Poisson count."""
    eps = (1 - confidence) / 2
    return Interval(
        mean_at_least(count, TRIALS, eps), mean_at_most(count, TRIALS, eps), "Poisson (Garwood)"
    )


def of_rate(counts: Sequence[int], seconds: float, confidence: float) -> Interval:
    """Per second, of ``counts`` of equal blocks that last ``seconds`` together.

    By Student's t from `BLOCKS_MIN` blocks on, if they differ, else as a Poisson process.
    """
    if len(counts) < BLOCKS_MIN or len(set(counts)) == 1:
        return of_poisson(sum(counts), confidence).scaled(1 / seconds)
    each = np.asarray(counts, np.float64)
    half = student(len(counts) - 1, confidence) * float(each.std(ddof=1)) / sqrt(each.size)
    mean, block_s = float(each.mean()), seconds / each.size
    method = f"Student's t, {each.size} blocks"
    return Interval(max(0.0, mean - half) / block_s, (mean + half) / block_s, method)


def of_quantile(values: npt.NDArray[Any], share: float, confidence: float) -> Interval:
    """Of the value that ``share`` of all are at most, for independent ``values`` in rising order.

    Their number below the true quantile is binomial with the mean n ``share``.
    """
    eps, n = (1 - confidence) / 2, values.size
    spread = sqrt(n * share * (1 - share))
    reach = float(np.sqrt(-2 * np.log(eps)))  # Gauss's tail is below exp(-x^2 / 2)
    low = max(0, int(n * share - reach * spread))
    high = min(n - 1, int(n * share + reach * spread) + 1)
    return Interval(float(values[low]), float(values[high]), "order statistics")


@lru_cache(maxsize=64)
def student(freedom: int, confidence: float) -> float:
    """The t that |T| stays below with this probability, with ``freedom`` degrees of freedom.

    x = freedom / (freedom + T^2) has a beta law: Abramowitz and Stegun, 26.7.1.
    """
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        x = (low + high) / 2
        beyond = float(betainc(freedom / 2, 0.5, 0, x, regularized=True))
        low, high = (x, high) if beyond < 1 - confidence else (low, x)
    return sqrt(freedom * (1 - high) / high)
