"""The part of a site file about the monitors of its detectors: ``[link.monitors]``."""

from math import isnan, nan

from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side
from qkd_core.types.monitors import MonitorSettings, PairMonitorSettings
from qkd_core.types.settings_table import SettingsTable

PS_PER_US = 1e6
PULSES_ALONE = {
    "dead_time_us": "link.pairs.hold_off_ps says when detectors are live",
    "unevenness": "their double clicks come of dark counts and other pairs",
    "self_test": "receivers of pairs have no light of their own",
}


def read_monitors(link: SettingsTable) -> MonitorSettings | None:
    """None where the file has no such table; a limit that is left out turns its monitor off.

    Raises ConfigError.
    """
    if not link.has("monitors"):
        return None
    table = link.table("monitors")
    with table.checks():
        monitors = MonitorSettings(
            false_alarm=_false_alarm(table),
            dead_time_ps=PS_PER_US * table.number("dead_time_us", 0, 1000),
            arrival_distance=_limit(table, "arrival_distance"),
            double_click_share=_limit(table, "double_click_share"),
            self_test=table.flag("self_test", False),
            balance_share=_limit(table, "balance_share"),
            unevenness=table.number("unevenness", 1, 100, 1.0),
        )
    table.finish()
    return monitors


def read_pair_monitors(link: SettingsTable, side: Side) -> PairMonitorSettings | None:
    """As `read_monitors`, for either side of a link of pairs. Raises ConfigError."""
    if not link.has("monitors"):
        return None
    table = link.table("monitors")
    with table.checks():
        for key, why in PULSES_ALONE.items():
            if table.has(key):
                raise ConfigError(f"{key} is for decoy pulses: {why}")
        if side is Side.B and table.has("arrival_distance"):
            raise ConfigError("arrival_distance: of pairs at side A, which finds the coincidences")
        monitors = PairMonitorSettings(
            false_alarm=_false_alarm(table),
            arrival_distance=_limit(table, "arrival_distance"),
            double_click_share=_limit(table, "double_click_share"),
            rate_share=_limit(table, "rate_share"),
            balance_share=_limit(table, "balance_share"),
        )
    table.finish()
    return monitors


def _false_alarm(table: SettingsTable) -> float:
    return table.number("false_alarm", 1e-30, 1e-3, 1e-9)


def _limit(table: SettingsTable, key: str) -> float | None:
    limit = table.number(key, 0, 1, nan)  # read in any case, so that its name is known
    return None if isnan(limit) else limit
