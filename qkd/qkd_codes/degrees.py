"""The choice of column degrees: the ensemble that corrects the most errors in so many sweeps.

A step of a linear program: near the present degrees, the sweeps needed fall or rise with each
degree's share in proportion, as density evolution tells. The step is taken if the threshold rises,
else a shorter one is tried. Idea: Smith, Ardakani, Yu, Kschischang, "Design of irregular LDPC codes
with optimized performance-complexity tradeoff", IEEE Trans. Commun. 58, 2010.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import floor

import numpy as np

from qkd_codes.density import (
    Ensemble,
    Grid,
    Search,
    Shares,
    entropy_of,
    evolve,
    level_rows,
    threshold,
)

DEGREES = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 25, 30)
STARTS = ((8, 20), (10, 30), (12, 30), (8, 8), (10, 10), (8, 30), (7, 16))  # two heavy degrees
STARTS_KEPT, STEPS = 2, 14
FIRST_EXCESS = 1.15  # over h(q), where a threshold is looked for first
REACH, SHORTEST_REACH, SHORTEN = 0.06, 0.0015, 2.2  # of a step: change of a share
UNUSED = 1e-9  # a share of no column
SPARE_SWEEPS = 20
BELOW, ABOVE = 0.997, 1.0002  # of the threshold: where it is examined, and what a step must reach
NOTHING = 1e-6  # what the linear program leaves of a degree that it does not want
TRACE, DIGITS = 0.004, 5  # shares below are left out, the others rounded
MOST_LIGHT_AT_START = 0.45


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of an ensemble.

    ratio       of rows to columns
    mean        degree of its columns
    light_most  columns of degree two at most, to one row
    sweeps      in which the errors must be gone
    """

    ratio: float
    mean: float
    light_most: float
    sweeps: int = 100
    grid: Grid = field(default_factory=Grid)


@dataclass(frozen=True, slots=True)
class Found:
    """An ensemble: shares of edges by column degree, and the error rate that it corrects."""

    columns: Shares
    threshold: float


def choose(task: Task, say: Callable[[str], None], starts: int = STARTS_KEPT) -> Found:
    """The best ensemble from the ``starts`` most promising starts."""
    from scipy.optimize import brentq

    first = brentq(lambda qber: entropy_of(qber) * FIRST_EXCESS - task.ratio, 1e-4, 0.45)
    scored = []
    for heavy in STARTS:
        columns = _start(task, *heavy)
        if min(columns.values()) >= 0:
            found = _threshold(
                task, _ensemble(columns, level_rows(columns, task.ratio)), first, Search(halvings=2)
            )
            scored.append((found, heavy, columns))
    scored.sort(key=lambda each: each[:2], reverse=True)
    best: Found | None = None
    for score, heavy, columns in scored[:starts]:
        say(f"start from degrees 2, 3, {heavy[0]}, {heavy[1]}: threshold {score:.5f}")
        improved = improve(task, columns, score, say)
        if best is None or improved.threshold > best.threshold:
            best = improved
    if best is None:
        raise ValueError(f"no start has mean degree {task.mean} at a ratio of {task.ratio}")
    return best


def improve(task: Task, start: Shares, score: float, say: Callable[[str], None]) -> Found:
    """Step from ``start``, whose threshold is about ``score``, until nothing is gained."""
    columns = {degree: start.get(degree, 0.0) for degree in DEGREES}
    rows = level_rows(start, task.ratio)  # of every step: the mean degree stays
    best = _threshold(task, _ensemble(start, rows), score, Search(halvings=4))
    reach = REACH
    for _ in range(STEPS):
        candidate = _step(task, _ensemble(columns, rows), best, reach)
        if candidate is not None:
            ensemble, aim = _ensemble(candidate, rows), best * ABOVE
            if evolve(task.grid, aim, ensemble, task.sweeps).sweeps <= task.sweeps:
                best = _threshold(task, ensemble, aim, Search(step=0.003, halvings=4))
                columns = candidate
                say(f"  threshold {best:.5f}, f {task.ratio / entropy_of(best):.4f}")
                continue
        reach /= 2 if candidate is None else SHORTEN
        if candidate is not None and reach < SHORTEST_REACH:
            break
    return Found({degree: share for degree, share in columns.items() if share > NOTHING}, best)


def counts_of(columns: Shares, n_columns: int, n_rows: int) -> dict[int, int]:
    """The number of columns of each degree, ascending; fewer of degree two than rows."""
    kept = {degree: share for degree, share in columns.items() if share > TRACE}
    total = sum(kept.values())
    kept = {degree: round(share / total, DIGITS) for degree, share in kept.items()}
    nodes = {degree: share / degree for degree, share in kept.items()}
    total = sum(nodes.values())
    exact = {degree: part / total * n_columns for degree, part in nodes.items()}
    counts = {degree: floor(count) for degree, count in exact.items()}
    by_loss = sorted(exact, key=lambda degree: counts[degree] - exact[degree])
    for degree in by_loss[: n_columns - sum(counts.values())]:
        counts[degree] += 1
    too_many = max(0, counts.get(2, 0) - (n_rows - 1))
    if too_many:
        counts[2] -= too_many
        counts[3] = counts.get(3, 0) + too_many
    return dict(sorted(counts.items()))


def threshold_of(task: Task, counts: dict[int, int], start: float) -> float:
    """The threshold of an ensemble with so many columns of each degree."""
    edges = sum(degree * count for degree, count in counts.items())
    columns = {degree: degree * count / edges for degree, count in counts.items()}
    ensemble = _ensemble(columns, level_rows(columns, task.ratio))
    return _threshold(task, ensemble, start, Search(step=0.01, halvings=6))


def _threshold(task: Task, ensemble: Ensemble, start: float, how: Search) -> float:
    return threshold(task.grid, ensemble, task.sweeps, start, how)


def _ensemble(columns: Shares, rows: Shares) -> Ensemble:
    in_use = {degree: share for degree, share in columns.items() if share > UNUSED}
    return Ensemble(in_use, rows)


def _start(task: Task, heavy: int, heavier: int) -> dict[int, float]:
    """Degrees 2, 3 and two heavy ones, which have equally many edges."""
    light = min(task.light_most * task.ratio * 0.95, MOST_LIGHT_AT_START)
    both = 1 + heavy / heavier
    part = (task.mean - 2 * light - 3 * (1 - light)) / (2 * heavy - 3 * both)
    nodes = {2: light, 3: 1 - light - part * both}
    nodes[heavy] = nodes.get(heavy, 0) + part
    nodes[heavier] = nodes.get(heavier, 0) + part * heavy / heavier
    return {degree: node * degree / task.mean for degree, node in nodes.items()}


def _step(task: Task, ensemble: Ensemble, best: float, reach: float) -> dict[int, float] | None:
    """The shares within ``reach`` that need the fewest sweeps; None if the program has no answer.

    One sweep from errors x to y costs 1 / ln(x / y) of a sweep by a factor of e; a share's price is
    what it leaves of errors, at that rate.
    """
    from scipy.optimize import linprog

    seen = evolve(task.grid, best * BELOW, ensemble, task.sweeps + SPARE_SWEEPS, DEGREES)
    n = min(seen.errors.size - 1, len(seen.by_degree))
    gained = np.log(seen.errors[:n] / seen.errors[1 : n + 1])
    price = (seen.by_degree[:n] / (seen.errors[1 : n + 1] * gained)[:, None]).sum(0)
    now = np.array([ensemble.columns.get(degree, 0.0) for degree in DEGREES])
    low, high = np.maximum(0, now - reach), np.minimum(1, now + reach)
    high[0] = min(high[0], 2 * task.light_most * task.ratio / task.mean)
    low[0] = min(low[0], high[0])
    equal = np.array([np.ones(len(DEGREES)), [1 / degree for degree in DEGREES]])
    answer = linprog(
        price, A_eq=equal, b_eq=[1, 1 / task.mean], bounds=np.stack([low, high], 1), method="highs"
    )
    if answer.status != 0:
        return None
    return {degree: float(share) for degree, share in zip(DEGREES, answer.x, strict=True)}
