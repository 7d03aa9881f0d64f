"""The plugin's gRPC server on its unix socket."""

import asyncio
from collections.abc import Callable

from qkd_kms_adapters.openbao_plugin.engine.engine import SecretsEngine
from qkd_kms_adapters.openbao_plugin.engine.storage import Storage
from qkd_kms_adapters.openbao_plugin.process.running import Place
from qkd_kms_adapters.openbao_plugin.transport.broker import Broker, Host
from qkd_kms_adapters.openbao_plugin.transport.mounts import Mounts
from qkd_kms_adapters.openbao_plugin.transport.one_piece import OnePieceServer

GONE_S = 3.0  # from the end of the broker's stream to ours: a server that is there says Shutdown


class PluginServer:
    """Serves until ``stop`` is set: by the server, or because the server is gone."""

    def __init__(
        self, place: Place, make_engine: Callable[[Storage], SecretsEngine], version: str
    ) -> None:
        """To be made in the event loop that it will run in."""
        self.stop = asyncio.Event()
        self._place = place
        self._broker = Broker(self._host_left)
        self._mounts = Mounts(self._broker, place.client_context, make_engine)
        self._server = OnePieceServer([self._broker, Host(self.stop, version), self._mounts])

    @property
    def connected(self) -> bool:
        return self._broker.opened

    async def start(self) -> None:
        await self._server.start(path=str(self._place.socket), ssl=self._place.server_context)

    async def close(self) -> None:
        await self._mounts.close()
        self._server.close()

    def _host_left(self) -> None:
        asyncio.get_running_loop().call_later(GONE_S, self.stop.set)
