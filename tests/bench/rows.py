"""The rows that a stage yields, how they are judged, and how they look as a table and as JSON."""

import json
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

COMPARISONS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio must be, as ``>= 0.6``; ``stretch`` is where we would like to be."""

    must: str | None
    stretch: str | None = None

    def met(self, ratio: float) -> bool | None:
        """None when there is only a stretch."""
        if self.must is None:
            return None
        sign, limit = self.must.split()
        return COMPARISONS[sign](ratio, float(limit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    ratio  ours to peer's, in ``unit`` (for a time as well: below 1 is then better)
    met    None where there is no goal, or where the machine was too busy for a verdict
    """

    stage: str
    n: int | None
    qber: float | None = None
    ours: float
    peer: float | None
    peer_name: str
    unit: str
    ratio: float | None
    goal: str | None
    met: bool | None
    stretch: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two medians side by side, before they are judged."""

    stage: str
    n: int | None
    ours: float
    peer: float | None = None
    peer_name: str = ""
    unit: str
    goal: Goal | None = None
    qber: float | None = None

    def row(self, *, quiet: bool) -> Row:
        """``quiet``: whether other processes left us enough of the machine for a verdict."""
        ratio = self.ours / self.peer if self.peer else None
        judged = self.goal is not None and ratio is not None and quiet
        return Row(
            stage=self.stage,
            n=self.n,
            qber=self.qber,
            ours=_rounded(self.ours),
            peer=None if self.peer is None else _rounded(self.peer),
            peer_name=self.peer_name,
            unit=self.unit,
            ratio=None if ratio is None else _rounded(ratio),
            goal=self.goal.must if self.goal else None,
            met=self.goal.met(ratio) if judged and self.goal and ratio is not None else None,
            stretch=self.goal.stretch if self.goal else None,
        )


def _rounded(value: float) -> float:
    """Four significant digits: there is no more in a measurement."""
    if not value or not math.isfinite(value):
        return value
    return round(value, 3 - math.floor(math.log10(abs(value))))


def write_json(rows: Sequence[Row], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def print_table(rows: Sequence[Row], notes: Sequence[str]) -> None:
    table = Table(title="make bench")
    for name in ("stage", "n", "ours", "peer", "", "unit", "ratio", "goal", "met", "stretch"):
        numeric = name in ("n", "ours", "peer", "ratio")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        met = {True: "yes", False: "NO", None: "-"}[row.met]
        table.add_row(
            row.stage,
            _text(row.n),
            _text(row.ours),
            _text(row.peer),
            row.peer_name,
            row.unit,
            _text(row.ratio),
            row.goal or "-",
            met,
            row.stretch or "-",
        )
    console = Console(width=150)
    console.print(table)
    for note in notes:
        console.print(f"- {note}", highlight=False, markup=False)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:,}"
