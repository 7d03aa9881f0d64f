"""One mount: its settings, and the ways to its KME that they lead to."""

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine
from typing import Any
from weakref import WeakSet

from qkd_kms_adapters.openbao_plugin.engine.fields import BAD_REQUEST
from qkd_kms_adapters.openbao_plugin.engine.kept import CONFIG, ROLES, Kept
from qkd_kms_adapters.openbao_plugin.engine.kme import Connect, Kme
from qkd_kms_adapters.openbao_plugin.engine.lines import Connection, Line
from qkd_kms_adapters.openbao_plugin.engine.messages import ReadOnlyStorage, Refused
from qkd_kms_adapters.openbao_plugin.engine.settings import Config, Role, kme_settings
from qkd_kms_adapters.openbao_plugin.engine.stock import Stock
from qkd_kms_adapters.openbao_plugin.engine.storage import Storage, StorageFailed

TRIES = 10  # to read a role and the config without a change between the two
RECENT = 3  # stocks of a role; one that is retired may still get the rest of a batch to burn
NOT_CONFIGURED = "not configured: write url, certificate, private_key and ca to config"


class Mount:
    """``writing`` is held by who changes settings, from the look at the others to the write."""

    def __init__(self, storage: Storage, connect: Connect) -> None:
        self.kept = Kept(storage)
        self.writing = asyncio.Lock()
        self._connect = connect
        self._shared: Connection | None = None
        self._open: WeakSet[Connection] = WeakSet()
        self._lines: dict[str, Line] = {}
        self._stocks: dict[str, deque[Stock]] = {}  # the newest last
        self._counted: dict[str, Counter[str]] = {}  # of stocks before those
        self._closing: set[asyncio.Task[None]] = set()

    async def line(self, name: str) -> Line:
        """The way to read for a role. Raises Refused: no such role, or no KME; StorageFailed.

        Use it at once, before another await: it may be retired then.
        """
        for _ in range(TRIES):
            if (line := self._lines.get(name)) is not None:
                return line
            role, config = await self.kept.role(name), await self.kept.config()
            if role is None:
                raise Refused(BAD_REQUEST, f"there is no role {name}")
            if config is None:
                raise Refused(BAD_REQUEST, NOT_CONFIGURED)
            if not self.kept.has_changed(config, name, role):
                if name not in self._lines:  # else another reader was quicker
                    self._lines[name] = self._opened(name, config, role)
                return self._lines[name]
        raise StorageFailed(f"role {name} or config changed in each of {TRIES} reads of both")

    def figures(self, name: str) -> Counter[str]:
        """Keys fetched ahead for a role: those there now, and all since this process began."""
        figures = Counter(self._counted.get(name))
        for stock in self._stocks.get(name, ()):
            figures.update(_counted(stock))
        if name in self._lines:
            now = self._lines[name].stock.figures
            figures.update(prefetched=now.prefetched, batch=now.batch)
        return figures

    def check_usable(self, config: Config, role: Role | None = None) -> None:
        """Raises Refused for settings that the KME's client cannot use."""
        self._later(self._connected(config, role).close())

    async def save(self, key: str, settings: Config | Role) -> None:
        """Raises ReadOnlyStorage on a standby, and nothing has changed then."""
        await self._change(key, self.kept.put(key, settings))

    async def delete(self, key: str) -> None:
        """As `save`."""
        await self._change(key, self.kept.delete(key))

    def forget(self, key: str) -> None:
        """What is stored there is another now: drop it, and what was fetched and opened by it.

        A standby hears of every key that is written, ours or not.
        """
        self.kept.forget(key)
        if key == CONFIG:
            for name in list(self._lines):
                self._retire(name)
            if self._shared is not None:
                self._later(self._shared.retire())
                self._shared = None
        elif key.startswith(ROLES):
            self._retire(key.removeprefix(ROLES))

    async def close(self) -> None:
        """Burn what was fetched, and close what is open, in use or not."""
        self.forget(CONFIG)
        await asyncio.gather(*(connection.close() for connection in list(self._open)))
        await asyncio.gather(*self._closing)

    async def _change(self, key: str, writing: Coroutine[Any, Any, None]) -> None:
        try:
            await writing
        except ReadOnlyStorage:
            raise
        except BaseException:  # it may have been written all the same
            self.forget(key)
            raise
        self.forget(key)

    def _opened(self, name: str, config: Config, role: Role) -> Line:
        if role.certificate:
            connection = self._connection(config, role)
        else:
            if self._shared is None:
                self._shared = self._connection(config)
            connection = self._shared
        line = Line(config, role, connection)
        self._count(name, line.stock)
        return line

    def _connection(self, config: Config, role: Role | None = None) -> Connection:
        connection = Connection(self._connected(config, role))
        self._open.add(connection)
        return connection

    def _connected(self, config: Config, role: Role | None = None) -> Kme:
        try:
            return self._connect(kme_settings(config, role))
        except ValueError as error:
            raise Refused(BAD_REQUEST, f"the KME's client: {error}") from error

    def _count(self, name: str, stock: Stock) -> None:
        stocks = self._stocks.setdefault(name, deque())
        stocks.append(stock)
        if len(stocks) > RECENT:
            self._counted.setdefault(name, Counter()).update(_counted(stocks.popleft()))

    def _retire(self, name: str) -> None:
        line = self._lines.pop(name, None)
        if line is None:
            return
        line.retire()
        if line.own:
            self._later(line.connection.retire())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Closing waits for threads, and who changes a setting need not."""
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _counted(stock: Stock) -> dict[str, int]:
    figures = stock.figures
    return {"served": figures.served, "expired": figures.expired, "lost": figures.lost}
