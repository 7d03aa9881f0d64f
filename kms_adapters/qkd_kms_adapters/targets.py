"""What a site file says of the place where a policy's keys go, whatever kind of place it is."""

from collections.abc import Callable, Hashable
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, Self, TypeVar

from qkd_core.ports import KeySink
from qkd_core.types.refresh import RefreshPolicy
from qkd_core.types.settings_table import SettingsTable

T = TypeVar("T")


class Servers:
    """What the sinks of one process share: one conversation, logged in once, a server and login."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for ``key``; ``make`` is called once for it and connects to nothing."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            made: T = self._made[key]
            return made


class Target(Protocol):
    """Where one site puts the keys of one refresh policy; frozen, compared by value."""

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> Self:
        """Read what is this kind's own; paths are relative to ``folder``. Raises ConfigError."""

    @property
    def server(self) -> str:
        """What fails as one: a policy never waits for the server of another one."""

    @property
    def places(self) -> tuple[str, ...]:
        """What a policy has for itself there; the first one is where its keys go."""

    def check(self, policy: RefreshPolicy) -> None:
        """Raises ConfigError when this kind of place cannot take such keys."""

    def sink(self, policy: RefreshPolicy, servers: Servers) -> KeySink:
        """A sink, for one thread at a time; it connects when it is first used."""


def existing_file(table: SettingsTable, key: str, folder: Path) -> Path:
    path = folder / table.text(key)
    if not path.is_file():
        raise table.refuse(key, str(path), "must be a file that exists")
    return path
