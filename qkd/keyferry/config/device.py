"""What gives a site its end of the link: ``[link.device]``."""

from dataclasses import dataclass
from pathlib import Path

from keyferry.config.files import Files
from keyferry.config.replay import ReplaySettings, read_replay
from keyferry.config.sifted import REPLAY_SIFTED, SiftedReplaySettings, read_sifted_replay
from keyferry.config.tagger import TAGGERS, TaggerSettings, read_tagger
from qkd_core.types.settings_table import SettingsTable

SIMULATED, REPLAY = "simulated", "replay"
DRIVERS = (SIMULATED, REPLAY, REPLAY_SIFTED, *TAGGERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """How the engine reaches its end of the link; ``driver`` names the kind."""

    driver: str
    socket: Path
    credential: Path
    timeout_s: float


TaggingDevice = DeviceSettings | ReplaySettings | TaggerSettings
"""What gives the detections of this site's end."""

SiteDevice = TaggingDevice | SiftedReplaySettings
"""What gives the detections of this site's end, or the bits that it made of them itself."""


def read_device(table: SettingsTable, files: Files, of_pairs: bool) -> SiteDevice:
    """``of_pairs``: whether the link is one of pairs. Raises ConfigError."""
    driver = table.choice("driver", DRIVERS)
    if driver != SIMULATED and not of_pairs:
        raise table.refuse("driver", driver, "must be of link.pairs: it prepares no pulses")
    device: SiteDevice
    if driver == REPLAY:
        device = read_replay(table, files.existing(table, "recording"))
    elif driver == REPLAY_SIFTED:
        device = read_sifted_replay(table, files.existing(table, "recording"))
    elif driver in TAGGERS:
        device = read_tagger(table, driver)
    else:
        device = DeviceSettings(
            driver=driver,
            socket=files.path(table, "socket"),
            credential=files.path(table, "credential"),
            timeout_s=table.number("timeout_s", 1, 3600, 60.0),
        )
    table.finish()
    return device
