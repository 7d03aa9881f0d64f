"""What an operator's request holds. Raises ConfigError for what is missing or of a wrong kind."""

from collections.abc import Callable, Mapping
from typing import Any

from keyferry.operator.socket import Caller
from qkd_core.errors import ConfigError

Handled = Callable[[Mapping[str, Any], Caller], Mapping[str, Any]]
"""Carries out one order."""


def text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name} is missing")
    return value


def whole_number(request: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = request.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"{name} {value!r}: a whole number from {least} to {most}")
    return value
