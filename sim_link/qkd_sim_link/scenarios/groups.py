"""A table of a scenario that is made of numbers, and says where they come from."""

from collections.abc import Callable
from typing import TypeVar

from qkd_core.types.settings_table import SettingsTable

Group = TypeVar("Group")


def read_group(
    table: SettingsTable, kind: Callable[..., Group], **allowed: tuple[float, float]
) -> Group:
    """The noun ``kind``: its ``source``, and a number from each of these ranges.

    Raises ConfigError.
    """
    numbers = {key: table.number(key, low, high) for key, (low, high) in allowed.items()}
    group = kind(**numbers, source=table.text("source"))
    table.finish()
    return group
