"""The fields of a path: what they are called, what they take, and how they are read.

Clients send what they like: the command line sends text only, JSON clients send numbers and truth
values, and a field that is there may be null.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from qkd_kms_adapters.openbao_plugin.engine.messages import Refused

BAD_REQUEST = 400
LONGEST_NUMBER = 32  # characters; Python refuses to read a number of some thousand digits
SHOWN = 60  # characters of a bad value that are quoted
SECONDS = MappingProxyType({"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400})
TRUTH = MappingProxyType({"true": True, "1": True, "false": False, "0": False})
PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhd])", re.ASCII)
NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?", re.ASCII)
DURATION = re.compile(rf"(?:{PART.pattern})+", re.ASCII)


class Kind(StrEnum):
    """``pem`` is text over several lines; the last three are of answers only.

    Of ``pem`` and ``url`` the white space around them goes: files end in a line's end.
    """

    TEXT = "text"
    INTEGER = "integer"
    FLAG = "flag"
    DURATION = "duration"
    CHOICE = "choice"
    PEM = "pem"
    URL = "url"
    TIME = "time"
    LIST = "list"
    MAP = "map"


UNQUOTED = (Kind.PEM, Kind.URL)  # a private key may be pasted anywhere, a URL may have a password


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a request, or one item of an answer.

    least, most   limits of a number, of seconds, or of the characters of a text
    pattern       which a whole text must match, with ``shape`` to say it in words
    default       what a new object has if the client leaves the field out; None: nothing
    required      a new object must have it
    secret        never shown: in no answer, error or log
    """

    name: str
    kind: Kind
    description: str
    default: str | int | bool | None = None
    least: float = 0
    most: float = math.inf
    multiple_of: int = 1
    choices: tuple[str, ...] = ()
    pattern: str = ""
    shape: str = ""
    required: bool = False
    secret: bool = False

    def allowed(self) -> str:
        """What the field takes, in words."""
        if self.shape:
            return self.shape
        return _ALLOWED[self.kind](self)

    def read(self, given: object) -> str | int | float | bool:
        """The value that a client sent. Raises Refused: the field, the value, what is allowed."""
        try:
            return _READ[self.kind](self, given)
        except ValueError:
            hidden = self.secret or self.kind in UNQUOTED
            quoted = "" if hidden else f" cannot be {_quoted(given)}, it"
            raise Refused(BAD_REQUEST, f"{self.name}{quoted} must be {self.allowed()}") from None


@dataclass(frozen=True, slots=True)
class Given:
    """What a client sent: the fields that the path knows, and the names that it does not."""

    values: Mapping[str, Any] = field(repr=False)
    unknown: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        if not self.unknown:
            return ()
        return (f"fields that this path does not know were ignored: {', '.join(self.unknown)}",)


def read_fields(fields: Sequence[Field], data: Mapping[str, Any]) -> Given:
    """Read ``data``; a field that is null counts as left out. Raises Refused."""
    known = {field.name: field for field in fields}
    values = {
        name: known[name].read(given)
        for name, given in data.items()
        if name in known and given is not None
    }
    return Given(values, tuple(sorted(_quoted(name) for name in data if name not in known)))


def completed(fields: Sequence[Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with defaults where something is missing. Raises Refused for a required one."""
    for each in fields:
        if each.required and each.name not in values:
            raise Refused(BAD_REQUEST, f"{each.name} is missing: {each.allowed()}")
    return {field.name: values.get(field.name, field.default) for field in fields}


def _quoted(value: object) -> str:
    """The value on one line of ASCII, cut if long."""
    if not isinstance(value, str | int | float):
        return f"of type {type(value).__name__}"
    if isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
        return "such a large number"
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _within(field: Field, number: float) -> None:
    if not field.least <= number <= field.most:
        raise ValueError


def _text(field: Field, given: object) -> str:
    if not isinstance(given, str) or not given.isprintable():
        raise ValueError
    _within(field, len(given))
    if field.pattern and not re.fullmatch(field.pattern, given, re.ASCII):
        raise ValueError
    return given


def _url(field: Field, given: object) -> str:
    return _text(field, given.strip() if isinstance(given, str) else given)


def _pem(field: Field, given: object) -> str:
    if not isinstance(given, str):
        raise ValueError
    _within(field, len(given))
    return given.strip()


def _number(given: object) -> float:
    """Raises ValueError for all but a number that is finite, or its text."""
    if isinstance(given, str) and len(given) <= LONGEST_NUMBER and NUMBER.fullmatch(given):
        return float(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError
    try:
        number = float(given)
    except OverflowError:
        raise ValueError from None
    if not math.isfinite(number):
        raise ValueError
    return number


def _integer(field: Field, given: object) -> int:
    number = _number(given)
    _within(field, number)
    if not number.is_integer() or int(number) % field.multiple_of:
        raise ValueError
    return int(number)


def _duration(field: Field, given: object) -> float:
    """Seconds: of a number, or of text such as 90, 1m30s or 1.5h."""
    if isinstance(given, str) and len(given) <= LONGEST_NUMBER and DURATION.fullmatch(given):
        seconds = math.fsum(float(count) * SECONDS[unit] for count, unit in PART.findall(given))
    else:
        seconds = _number(given)
    _within(field, seconds)
    return int(seconds) if seconds.is_integer() else seconds


def _flag(field: Field, given: object) -> bool:
    if isinstance(given, bool):
        return given
    if isinstance(given, str | int) and (known := TRUTH.get(str(given)[:6].lower())) is not None:
        return known
    raise ValueError


def _choice(field: Field, given: object) -> str:
    if not isinstance(given, str) or given not in field.choices:
        raise ValueError
    return given


def _allowed_text(field: Field) -> str:
    return f"text of {field.least:g} to {field.most:g} printable characters"


def _allowed_integer(field: Field) -> str:
    multiple = f"a multiple of {field.multiple_of}" if field.multiple_of > 1 else "a whole number"
    if math.isinf(field.most):
        return multiple
    return f"{multiple} from {field.least:g} to {field.most:g}"


_READ: Mapping[Kind, Callable[[Field, object], str | int | float | bool]] = MappingProxyType(
    {
        Kind.TEXT: _text,
        Kind.INTEGER: _integer,
        Kind.FLAG: _flag,
        Kind.DURATION: _duration,
        Kind.CHOICE: _choice,
        Kind.PEM: _pem,
        Kind.URL: _url,
    }
)
_ALLOWED: Mapping[Kind, Callable[[Field], str]] = MappingProxyType(
    {
        Kind.TEXT: _allowed_text,
        Kind.INTEGER: _allowed_integer,
        Kind.FLAG: lambda field: "true or false",
        Kind.DURATION: lambda field: (
            f"a duration from {field.least:g} to {field.most:g} seconds, as 90, 90s or 1m30s"
        ),
        Kind.CHOICE: lambda field: " or ".join(field.choices),
        Kind.URL: _allowed_text,
        Kind.PEM: lambda field: f"PEM text of at most {field.most:g} characters",
    }
)
