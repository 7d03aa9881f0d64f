"""What goes wrong on a link, and when.

A fault is told in a scenario, as a table of ``[[faults]]``, or to a link that runs
(`serving.control`). It acts from ``start_s`` to ``end_s`` of link time, with one exception:
what is said between the sites takes the time of the wall. Everything here ends with its fault,
as if somebody had mended it: a clock is set right, a latched detector is reset.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side
from qkd_core.types.settings_table import SettingsTable
from qkd_sim_link.scenarios.fault_kinds import ALL, DETECTORS, KINDS, LONG_S, Acts, Number, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault; ``values`` has every parameter of its kind. ``number`` tells faults apart."""

    kind: str
    values: Mapping[str, Value]
    start_s: float = 0.0
    end_s: float = inf
    number: int = 0

    def value(self, key: str) -> float:
        return float(self.values[key])

    def at(self, side: Side) -> bool:
        """Whether it acts at the detectors of this site."""
        return self.values.get("end", Side.B.value) == side.value

    def overlaps(self, begin_s: float, end_s: float) -> bool:
        return self.start_s < end_s and begin_s < self.end_s

    @property
    def of_line(self) -> bool:
        return Acts.LINE in KINDS[self.kind].acts

    def require_on(self, acts: Acts, *, with_line: bool) -> None:
        """Raises ConfigError where a link of this kind does not have what the fault acts on."""
        may = KINDS[self.kind].acts
        if acts not in may and not (with_line and self.of_line):
            where = ", ".join(sorted(may))
            here = f"{acts} and a line" if with_line else acts
            raise ConfigError(f"fault {self.kind}: acts on {where}, this link has {here}")
        if acts is not Acts.PULSES:
            return
        if self.values.get("end", "b") != "b":
            raise ConfigError(f"fault {self.kind}: end = 'a': the detectors of pulses are at b")
        detector = self.values.get("detector", ALL)
        if detector not in (ALL, *DETECTORS[:2]):
            raise ConfigError(
                f"fault {self.kind}: detector = {detector!r}: of pulses there are 0 and 1"
            )


def read_faults(top: SettingsTable, acts: Acts) -> tuple[Fault, ...]:
    """The ``[[faults]]`` of a scenario of this kind of link, numbered from 1. Raises ConfigError.

    Whether the link has a line for those that act on one is known when it starts.
    """
    faults = tuple(_timed(table, i + 1) for i, table in enumerate(top.tables("faults")))
    with top.checks():
        for fault in faults:
            fault.require_on(acts, with_line=True)
    return faults


def _timed(table: SettingsTable, number: int) -> Fault:
    start_s = table.number("start_s", 0, LONG_S)
    last_s = table.number("duration_s", 1e-6, LONG_S, inf)
    kind = table.choice("kind", tuple(KINDS))
    fault = Fault(
        kind=kind,
        values=_values(kind, table),
        start_s=start_s,
        end_s=start_s + last_s,
        number=number,
    )
    table.finish()
    return fault


def told_fault(kind: str, told: Mapping[str, object]) -> Fault:
    """A fault as somebody tells it, without times; a number may be a text. Raises ConfigError."""
    if kind not in KINDS:
        raise ConfigError(f"fault {kind!r}: must be one of {', '.join(KINDS)}")
    known = KINDS[kind].parameters
    numbers = {key for key, what in known.items() if isinstance(what, Number)}
    data = {key: _number(value) if key in numbers else value for key, value in told.items()}
    table = SettingsTable(data, f"fault {kind}", "")
    for key, value in told.items():
        if key not in known:  # told before what is missing: it may be that, misspelt
            raise table.refuse(key, value, f"unknown key (known: {', '.join(known)})")
    return Fault(kind=kind, values=_values(kind, table))


def _values(kind: str, table: SettingsTable) -> dict[str, Value]:
    return {key: what.read(table, key) for key, what in KINDS[kind].parameters.items()}


def _number(value: object) -> object:
    """A text that is a number as one; anything else as it is, to be refused."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
