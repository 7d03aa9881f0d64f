"""One report for every kind of link: named figures, each beside what the physics says."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from qkd_sim_link.reports.intervals import Interval

Progress = Callable[[int, int], None]
"""Is called with blocks done and blocks in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number.

    metric    the name that operators know it by, M1 to M10
    part      of which link, detector or basis; empty for the whole
    value     None where the link has no such thing, and ``note`` says why
    expected  from the link's physics alone; None where there is no formula
    """

    metric: str
    name: str
    part: str = ""
    unit: str = ""
    value: float | None = None
    interval: Interval | None = None
    expected: float | None = None
    note: str = ""

    def scaled(self, factor: float) -> "Figure":
        """The same figure in another unit."""
        return replace(
            self,
            value=None if self.value is None else factor * self.value,
            interval=self.interval and self.interval.scaled(factor),
            expected=None if self.expected is None else factor * self.expected,
        )

    def as_json(self) -> dict[str, Any]:
        interval = self.interval and asdict(self.interval)
        told = interval or {"low": None, "high": None, "method": None}
        return {
            "metric": self.metric,
            "name": self.name,
            "part": self.part,
            "unit": self.unit,
            "value": self.value,
            **told,
            "expected": self.expected,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What ``link_s`` seconds of a link gave in ``n_blocks`` blocks, simulated in ``wall_s``."""

    scenario: str
    kind: str
    n_blocks: int
    link_s: float
    wall_s: float
    seed: int
    confidence: float
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()

    @property
    def real_time(self) -> float:
        """Link seconds simulated in a second."""
        return self.link_s / self.wall_s

    def as_json(self) -> dict[str, Any]:
        items = {name: getattr(self, name) for name in self.__slots__ if name != "figures"}
        return {
            **items,
            "real_time_factor": self.real_time,
            "figures": [figure.as_json() for figure in self.figures],
        }


def absent(metric: str, name: str, why: str) -> Figure:
    """A figure that this kind of link does not have."""
    return Figure(metric=metric, name=name, note=why)


def in_order(figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """By their metric; what belongs together stays in its order."""
    return tuple(sorted(figures, key=lambda figure: int(figure.metric.removeprefix("M"))))
