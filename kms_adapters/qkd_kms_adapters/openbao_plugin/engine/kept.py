"""The settings of a mount as they are stored, each read once until it changes."""

from qkd_kms_adapters.openbao_plugin.engine.settings import Config, Role, to_store
from qkd_kms_adapters.openbao_plugin.engine.storage import Storage

CONFIG, ROLES = "config", "roles/"
NOTHING = "nothing"  # where nothing is ever stored


def role_key(name: str) -> str:
    return ROLES + name


class Kept:
    """``changes`` goes up with each `forget`: what was read across one may be the old value."""

    def __init__(self, storage: Storage) -> None:
        self.changes = 0
        self._storage = storage
        self._config: Config | None = None
        self._roles: dict[str, Role] = {}

    async def config(self) -> Config | None:
        while self._config is None:
            seen = self.changes
            value = await self._storage.get(CONFIG)
            if value is None:
                return None
            if seen == self.changes:
                self._config = Config.stored(value)
        return self._config

    async def role(self, name: str) -> Role | None:
        while (role := self._roles.get(name)) is None:
            seen = self.changes
            value = await self._storage.get(role_key(name))
            if value is None:
                return None
            if seen == self.changes:
                self._roles[name] = Role.stored(value)
        return role

    async def role_names(self) -> list[str]:
        return sorted(await self._storage.list(ROLES))

    async def roles(self) -> dict[str, Role]:
        found = {name: await self.role(name) for name in await self.role_names()}
        return {name: role for name, role in found.items() if role is not None}

    async def put(self, key: str, settings: Config | Role) -> None:
        await self._storage.put(key, to_store(settings), seal_wrap=True)

    async def delete(self, key: str) -> None:
        await self._storage.delete(key)

    async def check_writable(self) -> None:
        """Raises ReadOnlyStorage on a standby, which does not say otherwise that it is one."""
        await self._storage.delete(NOTHING)

    def forget(self, key: str) -> None:
        self.changes += 1
        if key == CONFIG:
            self._config = None
        else:
            self._roles.pop(key.removeprefix(ROLES), None)
