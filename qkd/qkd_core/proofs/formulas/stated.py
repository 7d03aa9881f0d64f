"""Inputs and results of a formula under the names that papers and vectors use.

Both are frozen dataclasses. A field is annotated with its name in a JSON object, where that is
another than the field's own, and with the range that it has to lie in.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from enum import StrEnum
from functools import cache
from math import inf, isfinite
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from qkd_core.errors import ConfigError

T = TypeVar("T")
Pair = tuple[float, float]
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Named:
    """The name of a field in a JSON object."""

    name: str


@dataclass(frozen=True, slots=True)
class Range:
    """Where a number has to lie. Ends are allowed unless they are open."""

    low: float = -inf
    high: float = inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        high = f"{'less than' if self.open_high else 'at most'} {self.high:g}"
        return high if self.low == -inf else low if self.high == inf else f"{low} and {high}"


@dataclass(frozen=True, slots=True)
class Domain(Range):
    """As `Range`; but a number outside is no mistake of the file: no theorem speaks of it."""

    __str__ = Range.__str__


LARGEST = 1e300  # of any number
SHOWN = 40  # characters of a value in a message
MANY = 1e15  # beyond, a double no longer tells counts apart
COUNT = Domain(low=0, high=MANY)
MEAN = Range(low=0, high=100)  # photons of a pulse
EPSILON = Range(low=1e-300, high=1, open_high=True)
PROBABILITY = Range(low=1e-12, high=1)  # of a setting that is used
RATE = Range(low=0, high=1)  # of errors, or a transmittance
AT_LEAST_0 = Range(low=0)
AT_LEAST_1 = Range(low=1)


def read(kind: type[T], given: Mapping[str, object]) -> T:
    """A ``kind`` from a JSON object. Raises ConfigError: which key, its value, what is allowed."""
    wanted = {name_of(each, hint): (each, hint) for each, hint in _hints(kind)}
    for key in given:
        if key not in wanted:
            raise ConfigError(f"{_told(key)} is unknown, allowed are {', '.join(wanted)}")
    values: dict[str, object] = {}
    for key, (each, hint) in wanted.items():
        if key in given:
            values[each.name] = _value(key, hint, given[key])
        elif each.default is MISSING:
            raise ConfigError(f"{key} is missing, needed are {', '.join(needed(kind))}")
    return kind(**values)


def needed(kind: type[object]) -> list[str]:
    """The names that a JSON object must have."""
    return [name_of(each, hint) for each, hint in _hints(kind) if each.default is MISSING]


def optional(kind: type[object]) -> list[str]:
    """The names that a JSON object may have."""
    return [name_of(each, hint) for each, hint in _hints(kind) if each.default is not MISSING]


def allowed(kind: type[object]) -> dict[str, str]:
    """What each name of a JSON object may be, in words."""
    return {name_of(each, hint): _allowed(hint) for each, hint in _hints(kind)}


def outside_domain(inputs: object) -> list[str]:
    """Which numbers lie outside the domain of their fields, one line each."""
    lines = []
    for each, hint in _hints(type(inputs)):
        value = getattr(inputs, each.name)
        for domain in _annotations(hint, Domain):
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and not domain.holds(number):
                    lines.append(f"{name_of(each, hint)} is {number:g}, allowed is {domain}")
    return lines


def shown(outcome: object) -> dict[str, object]:
    """The numbers of ``outcome`` under their names."""
    return {
        name_of(each, hint): getattr(outcome, each.name) for each, hint in _hints(type(outcome))
    }


def names(kind: type[object]) -> dict[str, type]:
    """The names of a ``kind`` and the plain types of its fields."""
    return {name_of(each, hint): _plain(hint) for each, hint in _hints(kind)}


def name_of(each: "Field[Any]", hint: object) -> str:
    given = _annotations(hint, Named)
    return given[0].name if given else each.name


def _hints(kind: Any) -> list[tuple["Field[Any]", Any]]:
    return _hints_of(kind)


@cache
def _hints_of(kind: Any) -> list[tuple["Field[Any]", Any]]:
    """The fields of a dataclass with their annotations; slow to find out, so only once."""
    hints = get_type_hints(kind, include_extras=True)
    return [(each, hints[each.name]) for each in fields(kind)]


def _annotations(hint: object, kind: type[T]) -> list[T]:
    return [each for each in getattr(hint, "__metadata__", ()) if type(each) is kind]


def _plain(hint: Any) -> Any:
    """The type without its annotations, and without None."""
    bare = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    others = [each for each in get_args(bare) if each is not NoneType]
    return others[0] if NoneType in get_args(bare) else bare


def _allowed(hint: Any) -> str:
    plain = _plain(hint)
    if plain is bool:
        return "true or false"
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return " or ".join(plain)
    ranges = [str(each) for each in (*_annotations(hint, Range), *_annotations(hint, Domain))]
    if get_origin(plain) is tuple:
        return ", each ".join([f"a list of {len(get_args(plain))} numbers", *ranges[:1]])
    return ", ".join(["an integer" if plain is int else "a number", *ranges[:1]])


def _value(key: str, hint: Any, given: object) -> object:
    plain = _plain(hint)
    if get_origin(plain) is tuple:
        length = len(get_args(plain))
        if not isinstance(given, list) or len(given) != length:
            raise ConfigError(f"{key} is {_told(given)}, allowed is a list of {length} numbers")
        return tuple(_number(f"{key}[{i}]", float, hint, each) for i, each in enumerate(given))
    if plain is bool:
        good = isinstance(given, bool)
    elif issubclass(plain, StrEnum):
        good = given in list(plain)
    else:
        return _number(key, plain, hint, given)
    if not good:
        raise ConfigError(f"{key} is {_told(given)}, allowed is {_allowed(hint)}")
    return plain(given)


def _number(key: str, plain: type, hint: object, given: object) -> float | int:
    if isinstance(given, float) and plain is int and given.is_integer():
        given = int(given)
    is_number = isinstance(given, int if plain is int else int | float)
    ranges = _annotations(hint, Range)
    if (
        not is_number
        or isinstance(given, bool)
        or not -LARGEST < cast(float, given) < LARGEST
        or not all(each.holds(cast(float, given)) for each in ranges)
    ):
        words = ["an integer" if plain is int else "a number", *map(str, ranges)]
        raise ConfigError(f"{key} is {_told(given)}, allowed is {', '.join(words)}")
    return cast(int, given) if plain is int else float(cast(float, given))


def _told(given: object) -> str:
    """A value in a message, on one line and not longer than one."""
    text = repr(given) if not isinstance(given, list) else f"a list of {len(given)}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def finite(outcome: object) -> bool:
    """Is no number of ``outcome`` infinite or undefined?"""
    numbers = (v for v in shown(outcome).values() if isinstance(v, float))
    return all(isfinite(v) for v in numbers)
