"""The part of side B's site file about its detectors: ``[link.monitors]``."""

from qkd_core.types.monitors import MonitorSettings
from qkd_core.types.settings_table import SettingsTable

PS_PER_US = 1e6


def read_monitors(link: SettingsTable) -> MonitorSettings | None:
    """None where the file has no such table; a limit that is left out turns its monitor off.

    Raises ConfigError.
    """
    if not link.has("monitors"):
        return None
    table = link.table("monitors")
    with table.checks():
        monitors = MonitorSettings(
            false_alarm=table.number("false_alarm", 1e-30, 1e-3, 1e-9),
            dead_time_ps=PS_PER_US * table.number("dead_time_us", 0, 1000),
            arrival_distance=_limit(table, "arrival_distance"),
            double_click_share=_limit(table, "double_click_share"),
            self_test=table.flag("self_test", False),
        )
    table.finish()
    return monitors


def _limit(table: SettingsTable, key: str) -> float | None:
    return table.number(key, 0, 1) if table.has(key) else None
