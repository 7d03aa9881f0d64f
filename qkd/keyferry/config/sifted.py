"""Recorded sifted bits as a site's device: the table `link.device` with driver "replay-sifted"."""

from dataclasses import dataclass
from pathlib import Path

from keyferry.config.replay import SPEED_MAX
from qkd_core.types.monitors import PairMonitorSettings
from qkd_core.types.settings_table import SettingsTable

REPLAY_SIFTED = "replay-sifted"
OF_TAGS = ("arrival_distance", "double_click_share", "rate_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiftedReplaySettings:
    """How the engine replays its end's sifted bits of a link of pairs.

    speed  link seconds per second; 0: as fast as the engine takes it
    """

    recording: Path
    speed: float


def read_sifted_replay(table: SettingsTable, recording: Path) -> SiftedReplaySettings:
    """All of the table but the driver. Raises ConfigError."""
    return SiftedReplaySettings(recording=recording, speed=table.number("speed", 0, SPEED_MAX, 1.0))


def require_seen_in_bits(link: SettingsTable, monitors: PairMonitorSettings) -> None:
    """Raise ConfigError for a monitor that is on and has nothing to look at in sifted bits."""
    for name in OF_TAGS:
        limit = getattr(monitors, name)
        if limit is not None:
            raise link.refuse(
                f"monitors.{name}",
                limit,
                f"looks at time tags, of which driver {REPLAY_SIFTED!r} gives none: leave it out;"
                " balance_share looks at its bits",
            )
