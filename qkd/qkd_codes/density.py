"""Density evolution: how the errors of an endless code die out from sweep to sweep.

Richardson, Urbanke, "The capacity of low-density parity-check codes under message-passing
decoding", IEEE Trans. Inform. Theory 47, 2001; discretised as Chung, Forney, Richardson, Urbanke,
IEEE Commun. Lett. 5, 2001, but so that rounding keeps the mean of a magnitude.

A density is float64[2 * levels + 1]: the probabilities of the log-likelihood ratios -levels * step
.. levels * step of a message, as if all bits were zeros.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import floor, log, log2

import numpy as np
import numpy.typing as npt

from qkd_codes.check_product import check_product

Floats = npt.NDArray[np.float64]
Halves = tuple[Floats, Floats]  # see `check_product`
Shares = Mapping[int, float]

GONE = 1e-6  # errors below which a code counts as corrected
STALLED, LOOK_BACK, SETTLED = 1e-4, 5, 8  # a sweep must do more than that, once it has settled
MOST_QBER, LEAST_QBER = 0.5, 1e-4
WIDEN = 1.3  # the steps in the search of a threshold


@dataclass(frozen=True, slots=True)
class Grid:
    """The log-likelihood ratios that are told apart."""

    levels: int = 160
    step: float = 0.15

    @property
    def ratios(self) -> Floats:
        return np.arange(-self.levels, self.levels + 1, dtype=np.float64) * self.step


@dataclass(frozen=True, slots=True)
class Ensemble:
    """All codes with such shares of edges at columns, and at rows, of each degree."""

    columns: Shares
    rows: Shares


@dataclass(frozen=True, slots=True, eq=False)
class Evolution:
    """sweeps until the errors were gone, one more than allowed if they stayed.

    errors     float64[n], of a column's message at first and after each sweep
    by_degree  float64[sweeps, degrees], what they would be at columns of each watched degree
    """

    sweeps: int
    errors: Floats
    by_degree: Floats


def entropy_of(qber: float) -> float:
    """The binary entropy, in bits."""
    return -qber * log2(qber) - (1 - qber) * log2(1 - qber)


def evolve(
    grid: Grid, qber: float, ensemble: Ensemble, most: int, watched: Sequence[int] = ()
) -> Evolution:
    """Sweep at most ``most`` times in a channel with error rate ``qber``."""
    columns, rows = ensemble.columns, ensemble.rows
    channel = _channel(grid, qber)
    wrong = (1 - np.tanh(grid.ratios / 2)) / 2  # the soft error: smooth, and linear in the density
    density = channel
    errors, by_degree = [float(channel @ wrong)], []
    for sweep in range(1, most + 1):
        spectrum = np.fft.rfft(_at_checks(grid, density, rows), _transform_size(grid))
        at_column, density = channel, np.zeros_like(channel)
        watching = []
        for degree in range(2, max([*columns, *watched]) + 1):
            at_column = _plus_message(grid, spectrum, at_column)
            if degree in columns:
                density += columns[degree] * at_column
            if degree in watched:
                watching.append(float(at_column @ wrong))
        density /= density.sum()
        left = float(density @ wrong)
        by_degree.append(watching)
        if sweep >= SETTLED and left > errors[-LOOK_BACK - 1] * (1 - LOOK_BACK * STALLED):
            break
        errors.append(left)
        if left < GONE:
            return Evolution(sweep, np.array(errors), np.array(by_degree))
    return Evolution(most + 1, np.array(errors), np.array(by_degree))


@dataclass(frozen=True, slots=True)
class Search:
    """How closely a threshold is looked for: relative steps until it is enclosed, then halvings."""

    step: float = 0.02
    halvings: int = 6


def threshold(grid: Grid, ensemble: Ensemble, most: int, start: float, how: Search) -> float:
    """The largest error rate that is corrected in ``most`` sweeps, looked for from ``start``."""
    good: float | None = None
    bad: float | None = None
    qber, step = start, how.step
    while good is None or bad is None:
        if evolve(grid, qber, ensemble, most).sweeps <= most:
            good, qber = qber, qber * (1 + step) if bad is None else qber
        else:
            bad, qber = qber, qber * (1 - step) if good is None else qber
        step *= WIDEN
        if not LEAST_QBER <= qber <= MOST_QBER:
            return good or 0.0
    for _ in range(how.halvings):
        middle = (good + bad) / 2
        if evolve(grid, middle, ensemble, most).sweeps <= most:
            good = middle
        else:
            bad = middle
    return good


def level_rows(columns: Shares, ratio: float) -> dict[int, float]:
    """The shares of the edges at rows that all have one degree, or two neighbouring ones.

    ratio  of rows to columns
    """
    mean = 1 / sum(share / degree for degree, share in columns.items()) / ratio
    low = floor(mean)
    rows = {degree: part for degree, part in ((low, 1 - mean + low), (low + 1, mean - low)) if part}
    edges = sum(degree * part for degree, part in rows.items())
    return {degree: degree * part / edges for degree, part in rows.items()}


def _channel(grid: Grid, qber: float) -> Floats:
    out = np.zeros(2 * grid.levels + 1)
    at = log((1 - qber) / qber) / grid.step
    low = floor(at)
    for level, part in ((low, 1 - at + low), (low + 1, at - low)):
        out[grid.levels + level] += (1 - qber) * part
        out[grid.levels - level] += qber * part
    return out


def _plus_message(grid: Grid, spectrum: npt.NDArray[np.complex128], density: Floats) -> Floats:
    """The density of a sum with one more message of a check, which has that spectrum."""
    size, levels = _transform_size(grid), grid.levels
    total = np.fft.irfft(spectrum * np.fft.rfft(density, size), size)[: 4 * levels + 1]
    total = np.maximum(total, 0)
    out = total[levels : 3 * levels + 1].copy()
    out[0] += total[:levels].sum()
    out[-1] += total[3 * levels + 1 :].sum()
    return out


def _transform_size(grid: Grid) -> int:
    return 1 << (4 * grid.levels).bit_length()


def _at_checks(grid: Grid, density: Floats, rows: Shares) -> Floats:
    """The density of what rows say when ``density`` is that of what they hear."""
    heard = _halves(grid, density)
    out = np.zeros_like(density)
    known: dict[int, Halves] = {}
    for degree in sorted(rows):
        others = degree - 1
        last = known.get(others - 1)
        known[others] = _power(grid, heard, others) if last is None else _times(grid, last, heard)
        out += rows[degree] * _whole(grid, known[others])
    return out


def _halves(grid: Grid, density: Floats) -> Halves:
    plus, minus = density[grid.levels :].copy(), density[grid.levels :: -1].copy()
    plus[0] = minus[0] = density[grid.levels] / 2
    return plus + minus, plus - minus


def _whole(grid: Grid, halves: Halves) -> Floats:
    sums, differences = halves
    plus, minus = (sums + differences) / 2, (sums - differences) / 2
    return np.concatenate([minus[:0:-1], sums[:1], plus[1:]])


def _power(grid: Grid, base: Halves, exponent: int) -> Halves:
    out = None
    while exponent:
        if exponent & 1:
            out = base if out is None else _times(grid, out, base)
        exponent >>= 1
        if exponent:
            base = _times(grid, base, base)
    if out is None:
        raise ValueError("a row of degree one says all it hears of nothing")
    return out


def _times(grid: Grid, first: Halves, second: Halves) -> Halves:
    sums, differences = np.empty(grid.levels + 1), np.empty(grid.levels + 1)
    check_product(first, second, *_outcomes(grid), sums, differences)
    return sums, differences


@cache
def _outcomes(grid: Grid) -> tuple[npt.NDArray[np.int32], Floats]:
    """For two magnitudes: the level below their outcome 2 atanh(tanh(a/2) tanh(b/2)), and how far
    it is to the next."""
    a, b = np.meshgrid(*[np.arange(grid.levels + 1) * grid.step] * 2, indexing="ij")
    outcome = np.minimum(a, b) + np.log1p(np.exp(-(a + b))) - np.log1p(np.exp(-np.abs(a - b)))
    at = np.maximum(outcome, 0) / grid.step
    level = np.minimum(np.floor(at).astype(np.int32), grid.levels - 1)
    return level, at - level
