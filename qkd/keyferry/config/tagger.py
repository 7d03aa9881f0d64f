"""A time tagger as a site's device: the table `link.device` with the driver of its vendor."""

from dataclasses import dataclass

from keyferry.config.replay import read_channels
from qkd_core.types.settings_table import SettingsTable

TAGGERS = ("swabian", "picoquant")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggerSettings:
    """How the engine records its end of a link of pairs.

    serial    of the device; "" for the one that there is
    channels  of the device: those of detector 0, 1, 2, 3 (basis << 1 | bit)
    """

    driver: str
    serial: str
    channels: tuple[int, ...]


def read_tagger(table: SettingsTable, driver: str) -> TaggerSettings:
    """All of the table but the driver. Raises ConfigError."""
    return TaggerSettings(
        driver=driver,
        serial=table.text("serial", "", pattern=".*"),
        channels=read_channels(table, (1, 2, 3, 4)),
    )
