"""A role's way to its KME, and what is fetched ahead on it.

A setting may change while keys are being read. Who reads finishes with what he had, and so does a
batch that is fetched ahead: a connection that is not wanted any more is closed by its last user.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qkd_kms_adapters.openbao_plugin.engine.kme import Kme
from qkd_kms_adapters.openbao_plugin.engine.settings import Config, Role
from qkd_kms_adapters.openbao_plugin.engine.stock import Stock


class Connection:
    """A KME asked as one SAE, by one role or by all that have no certificate of their own."""

    def __init__(self, kme: Kme) -> None:
        self.kme = kme
        self._users = 0
        self._retired = self._closed = False

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._retired and not self._users:
                await self.close()

    async def retire(self) -> None:
        """Close it, now or after its last user."""
        self._retired = True
        if not self._users:
            await self.close()

    async def close(self) -> None:
        """Whoever still uses it is told that the KME did not answer."""
        self._retired = True
        if not self._closed:
            self._closed = True
            await self.kme.close()


class Line:
    """What one role reads through. ``own``: its connection is no other role's."""

    def __init__(self, config: Config, role: Role, connection: Connection) -> None:
        self.role, self.connection = role, connection
        self.own = bool(role.certificate)
        self.timeout_s = config.timeout
        self.certificate = role.certificate or config.certificate
        self.stock = Stock(
            connection.kme,
            role.peer_sae,
            n_bits=role.bits,
            most=role.prefetch,
            ttl_s=role.prefetch_ttl,
            in_use=connection.in_use,
        )
        self._users = 0
        self._retired = False

    @property
    def kme(self) -> Kme:
        return self.connection.kme

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        async with self.connection.in_use():
            self._users += 1
            try:
                yield
            finally:
                self._users -= 1
                if self._retired and not self._users:
                    self.stock.burn()  # what the last readers' batch left over

    def retire(self) -> None:
        """Burn what is fetched ahead; who reads now still gets his key."""
        self._retired = True
        self.stock.burn()
