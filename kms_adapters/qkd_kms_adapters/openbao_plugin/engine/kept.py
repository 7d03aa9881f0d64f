"""The settings of a mount as they are stored, each read once until it changes."""

from collections import Counter
from collections.abc import Awaitable
from typing import TypeVar

from qkd_kms_adapters.openbao_plugin.engine.settings import Config, Role, to_store
from qkd_kms_adapters.openbao_plugin.engine.storage import Damaged, Storage

CONFIG, ROLES = "config", "roles/"
NOTHING = "nothing"  # where nothing is ever stored; a role is stored below `ROLES`

Settings = TypeVar("Settings", Config, Role)


def role_key(name: str) -> str:
    return ROLES + name


async def readable(reading: Awaitable[Settings | None]) -> tuple[Settings | None, tuple[str, ...]]:
    """For who writes the settings anew: None and a warning if they are damaged."""
    try:
        return await reading, ()
    except Damaged as damaged:
        return None, (f"{damaged}: what was left out now has its default",)


class Kept:
    """What was read while it changed is good for who began before the change, and is not kept."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept: dict[str, Config | Role] = {}  # by storage key
        self._changes: Counter[str] = Counter()

    async def config(self) -> Config | None:
        """Raises Damaged."""
        return await self._read(CONFIG, Config)

    async def role(self, name: str) -> Role | None:
        """Raises Damaged."""
        return await self._read(role_key(name), Role)

    def has_changed(self, config: Config, name: str, role: Role) -> bool:
        """Whether one of the two changed since it was read, or while it was."""
        return self._kept.get(CONFIG) != config or self._kept.get(role_key(name)) != role

    async def is_there(self, key: str) -> bool:
        """Damaged or not."""
        return await self._storage.get(key) is not None

    async def role_names(self) -> list[str]:
        return sorted(await self._storage.list(ROLES))

    async def roles(self) -> tuple[dict[str, Role], tuple[str, ...]]:
        """Those that can be read, and the names of those that are damaged."""
        found: dict[str, Role] = {}
        damaged = []
        for name in await self.role_names():
            try:
                role = await self.role(name)
            except Damaged:
                damaged.append(name)
            else:
                if role is not None:
                    found[name] = role
        return found, tuple(damaged)

    async def put(self, key: str, settings: Config | Role) -> None:
        await self._storage.put(key, to_store(settings), seal_wrap=True)

    async def delete(self, key: str) -> None:
        await self._storage.delete(key)

    async def check_writable(self) -> None:
        """Raises ReadOnlyStorage on a standby, which does not say otherwise that it is one."""
        await self._storage.delete(NOTHING)

    def forget(self, key: str) -> None:
        self._changes[key] += 1
        self._kept.pop(key, None)

    async def _read(self, key: str, kind: type[Settings]) -> Settings | None:
        if isinstance(kept := self._kept.get(key), kind):
            return kept
        seen = self._changes[key]
        value = await self._storage.get(key)
        if value is None:
            return None
        settings = kind.stored(key, value)
        if seen == self._changes[key]:
            self._kept[key] = settings
        return settings
