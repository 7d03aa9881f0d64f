"""A recording of time tags as a site's device: the table `link.device` with driver "replay"."""

from dataclasses import dataclass
from pathlib import Path

from qkd_core.types.settings_table import SettingsTable

CHANNEL_MAX = 255
SPEED_MAX = 1e6
FORMS = (
    "native",
    "ptu",
    "qutag",
    *(f"s15-a{form}{exchanged}" for form in "012" for exchanged in ("", "x")),
)
DETECTORS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """How the engine replays its end of a link of pairs.

    form      the file's format; None for the one that it shows
    channels  of the file: those of detector 0, 1, 2, 3 (basis << 1 | bit)
    speed     link seconds per second; 0: as fast as the engine takes it
    """

    recording: Path
    form: str | None
    channels: tuple[int, ...]
    speed: float
    loop: bool
    timeout_s: float


def read_replay(table: SettingsTable, recording: Path) -> ReplaySettings:
    """All of the table but the driver. Raises ConfigError."""
    return ReplaySettings(
        recording=recording,
        form=table.choice("format", FORMS) if table.has("format") else None,
        channels=read_channels(table, (0, 1, 2, 3)),
        speed=table.number("speed", 0, SPEED_MAX, 1.0),
        loop=table.flag("loop", False),
        timeout_s=table.number("timeout_s", 1, 3600, 60.0),
    )


def read_channels(table: SettingsTable, usual: tuple[int, ...]) -> tuple[int, ...]:
    """Those of the four detectors, ``usual`` where the table names none. Raises ConfigError."""
    if not table.has("channels"):
        return usual
    numbers = table.numbers("channels", (DETECTORS,), 0, CHANNEL_MAX)
    channels = tuple(int(number) for number in numbers)
    if channels != numbers or len(set(channels)) != DETECTORS:
        raise table.refuse("channels", list(numbers), "must be four whole numbers, each once")
    return channels
