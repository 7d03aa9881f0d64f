"""The largest value of a function of a few variables, from its values alone.

Source: Nelder and Mead, Computer Journal 7, 308 (1965), with their coefficients.
"""

from collections.abc import Callable

Point = tuple[float, ...]
Valued = tuple[float, Point]

REFLECT, EXPAND, CONTRACT, SHRINK = 1.0, 2.0, 0.5, 0.5


def climb(value: Callable[[Point], float], start: Point, step: float, evaluations: int) -> Valued:
    """The best of about so many ``evaluations`` and its point, uphill from ``start``.

    Deterministic. ``value`` is -inf where it is not defined.
    """
    simplex = [(value(start), start)]
    for axis in range(len(start)):
        point = tuple(x + step * (i == axis) for i, x in enumerate(start))
        simplex.append((value(point), point))
    used = len(simplex)
    while used < evaluations:
        simplex.sort(key=lambda each: each[0], reverse=True)
        (best, _), (second_worst, _), (worst, at_worst) = simplex[0], simplex[-2], simplex[-1]
        centre = _centre([point for _, point in simplex[:-1]])
        moved = _valued(value, _between(centre, at_worst, -REFLECT))
        used += 1
        if moved[0] > best:
            further = _valued(value, _between(centre, at_worst, -EXPAND))
            used += 1
            simplex[-1] = max(moved, further)
        elif moved[0] > second_worst:
            simplex[-1] = moved
        else:
            towards = moved[1] if moved[0] > worst else at_worst
            nearer = _valued(value, _between(centre, towards, CONTRACT))
            used += 1
            if nearer[0] > max(worst, moved[0]):
                simplex[-1] = nearer
            else:
                at_best = simplex[0][1]
                shrunk = [_between(at_best, point, SHRINK) for _, point in simplex[1:]]
                simplex[1:] = [_valued(value, point) for point in shrunk]
                used += len(shrunk)
    return max(simplex)


def _valued(value: Callable[[Point], float], point: Point) -> Valued:
    return value(point), point


def _centre(points: list[Point]) -> Point:
    return tuple(sum(xs) / len(points) for xs in zip(*points, strict=True))


def _between(origin: Point, other: Point, share: float) -> Point:
    """``origin`` moved by that share of the way to ``other``."""
    return tuple(a + share * (b - a) for a, b in zip(origin, other, strict=True))
