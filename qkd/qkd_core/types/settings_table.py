"""A table of settings, read key by key: each error is one line with file, key, value, allowed."""

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

from qkd_core.errors import ConfigError

T = TypeVar("T")
_REQUIRED: Any = object()


def parse(text: str, file: str) -> "SettingsTable":
    """The top table of a TOML text. Raises ConfigError naming the line that is not TOML."""
    try:
        return SettingsTable(tomllib.loads(text), file, "")
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from error


class SettingsTable:
    """Every key must be read once before `finish`, which refuses the ones nobody asked for."""

    def __init__(self, data: dict[str, Any], file: str, prefix: str) -> None:
        self._data = data
        self.file = file
        self._prefix = prefix
        self._read: set[str] = set()

    def refuse(self, key: str, value: object, allowed: str) -> ConfigError:
        """The error for a value that is not allowed, to be raised by the caller."""
        return ConfigError(f"{self.file}: {self._prefix}{key} = {value!r}: {allowed}")

    def text(self, key: str, default: str = _REQUIRED, *, pattern: str = ".+") -> str:
        def allowed(value: object) -> bool:
            return isinstance(value, str) and re.fullmatch(pattern, value) is not None

        said = "must be a text" if pattern == ".+" else f"must be a text that matches {pattern}"
        return self._value(key, default, allowed, said)

    def choice(self, key: str, choices: Sequence[str], default: str = _REQUIRED) -> str:
        said = f"must be one of {', '.join(choices)}"
        return self._value(key, default, lambda value: value in choices, said)

    def flag(self, key: str, default: bool = _REQUIRED) -> bool:
        return self._value(key, default, lambda v: isinstance(v, bool), "must be true or false")

    def integer(self, key: str, low: int, high: int, default: int = _REQUIRED) -> int:
        def allowed(value: object) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

        return self._value(key, default, allowed, f"must be a whole number from {low} to {high}")

    def number(self, key: str, low: float, high: float, default: float = _REQUIRED) -> float:
        said = f"must be a number from {low:g} to {high:g}"
        return float(self._value(key, default, lambda v: _is_number(v, low, high), said))

    def numbers(
        self, key: str, lengths: tuple[int, ...], low: float, high: float
    ) -> tuple[float, ...]:
        """As many as one of ``lengths``."""

        def allowed(value: object) -> bool:
            return (
                isinstance(value, list)
                and len(value) in lengths
                and all(_is_number(v, low, high) for v in value)
            )

        n = " or ".join(str(length) for length in lengths)
        said = f"must be {n} numbers from {low:g} to {high:g}"
        return tuple(float(v) for v in self._value(key, _REQUIRED, allowed, said))

    def texts(
        self,
        key: str,
        choices: Sequence[str] | None = None,
        default: Sequence[str] = _REQUIRED,
        *,
        word: str | None = None,
    ) -> tuple[str, ...]:
        """``word``: a single text that may stand there instead of a list."""

        def allowed(value: object) -> bool:
            if word is not None and value == word:
                return True
            return isinstance(value, list | tuple) and all(
                isinstance(v, str) and (choices is None or v in choices) for v in value
            )

        said = "must be a list of texts"
        if choices is not None:
            said = f"must be a list of {', '.join(choices)}"
        if word is not None:
            said = f"{said}, or {word!r}"
        found: Sequence[str] = self._value(key, default, allowed, said)
        return (found,) if isinstance(found, str) else tuple(found)

    def table(self, key: str) -> "SettingsTable":
        """A sub-table that must be there."""
        data: dict[str, Any] = self._value(
            key, _REQUIRED, lambda v: isinstance(v, dict), "must be a table"
        )
        return SettingsTable(data, self.file, f"{self._prefix}{key}.")

    def tables(self, key: str) -> Iterator["SettingsTable"]:
        """The tables of an array, which may be missing."""

        def allowed(value: object) -> bool:
            return isinstance(value, list) and all(isinstance(v, dict) for v in value)

        found: list[dict[str, Any]] = self._value(key, [], allowed, "must be an array of tables")
        for i, data in enumerate(found):
            yield SettingsTable(data, self.file, f"{self._prefix}{key}[{i}].")

    def has(self, key: str) -> bool:
        return key in self._data

    def finish(self) -> None:
        """Raises ConfigError for a key that was never read, with the name it may have meant."""
        for key in self._data:
            if key in self._read:
                continue
            close = get_close_matches(key, self._read, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            known = ", ".join(sorted(self._read))
            raise ConfigError(
                f"{self.file}: {self._prefix}{key} = {self._data[key]!r}: unknown key{hint}"
                f" (known: {known})"
            )

    @contextmanager
    def checks(self) -> Iterator[None]:
        """A ConfigError inside, from a noun that checks itself, gets the file and the table."""
        try:
            yield
        except ConfigError as error:
            if str(error).startswith(self.file):
                raise
            where = f"{self._prefix.rstrip('.')}: " if self._prefix else ""
            raise ConfigError(f"{self.file}: {where}{error}") from error

    def _value(self, key: str, default: T, allowed: Callable[[Any], bool], said: str) -> T:
        self._read.add(key)
        if key not in self._data:
            if default is _REQUIRED:
                same = [each for each in self._data if each.lower() == key.lower()]
                close = same or get_close_matches(key, self._data, n=1)
                hint = f" (is {close[0]} meant?)" if close else ""
                raise ConfigError(f"{self.file}: {self._prefix}{key} is missing: {said}{hint}")
            return default
        value: T = self._data[key]
        if not allowed(value):
            raise self.refuse(key, value, said)
        return value


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
