"""The server's side of the gRPC services: it calls a `PluginServer` of this event loop."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from grpclib.client import Channel, StreamStreamMethod, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.server import Server

from qkd_kms_adapters.openbao_plugin.engine.engine import SecretsEngine
from qkd_kms_adapters.openbao_plugin.engine.storage import Storage
from qkd_kms_adapters.openbao_plugin.process.own_tls import contexts
from qkd_kms_adapters.openbao_plugin.process.running import Place
from qkd_kms_adapters.openbao_plugin.transport.calls import unary
from qkd_kms_adapters.openbao_plugin.transport.proto import backend_pb2 as pb
from qkd_kms_adapters.openbao_plugin.transport.proto import host_pb2
from qkd_kms_adapters.openbao_plugin.transport.serving import PluginServer

sys.path.insert(0, str(Path(__file__).parent))
from engine_world import Kmes, MemoryStorage
from process_server import a_server, context

sys.path.pop(0)

a_server = lru_cache(a_server)


class WatchedEngine(SecretsEngine):
    """Takes its time to close, so that others come between."""

    closed = False

    async def close(self) -> None:
        await asyncio.sleep(0.05)
        await super().close()
        self.closed = True


class StorageService:
    """What is kept, behind gRPC. ``error`` is the answer to every call, if it is there."""

    def __init__(self) -> None:
        self.kept = MemoryStorage()
        self.error = ""

    async def _get(self, asked: pb.StorageGetArgs, metadata: Any) -> pb.StorageGetReply:
        value = await self.kept.get(asked.key)
        if value is None or self.error:
            return pb.StorageGetReply(err=self.error)
        return pb.StorageGetReply(entry=pb.StorageEntry(key=asked.key, value=value))

    async def _put(self, asked: pb.StoragePutArgs, metadata: Any) -> pb.StoragePutReply:
        if not self.error:
            await self.kept.put(asked.entry.key, asked.entry.value)
        return pb.StoragePutReply(err=self.error)

    async def _delete(self, asked: pb.StorageDeleteArgs, metadata: Any) -> pb.StorageDeleteReply:
        if not self.error:
            await self.kept.delete(asked.key)
        return pb.StorageDeleteReply(err=self.error)

    async def _list(self, asked: pb.StorageListArgs, metadata: Any) -> pb.StorageListReply:
        return pb.StorageListReply(keys=await self.kept.list(asked.prefix), err=self.error)

    def __mapping__(self) -> Any:
        return {
            "/pb.Storage/Get": unary(self._get, pb.StorageGetArgs, pb.StorageGetReply),
            "/pb.Storage/Put": unary(self._put, pb.StoragePutArgs, pb.StoragePutReply),
            "/pb.Storage/Delete": unary(self._delete, pb.StorageDeleteArgs, pb.StorageDeleteReply),
            "/pb.Storage/List": unary(self._list, pb.StorageListArgs, pb.StorageListReply),
        }


class Host:
    def __init__(self, folder: Path) -> None:
        self.kmes, self.storage = Kmes(), StorageService()
        self.engines: list[WatchedEngine] = []
        listening, calling, der = contexts(a_server()[0])
        self.plugin = PluginServer(
            Place(socket=folder / "plugin", server_context=listening, client_context=calling),
            self._engine,
            "v0.0.0",
        )
        self.storage_socket = folder / "storage"
        self.listening = context(ssl.PROTOCOL_TLS_SERVER, a_server(), der)
        self.listening.verify_mode = ssl.CERT_REQUIRED
        self.channel = Channel(
            path=str(folder / "plugin"),
            ssl=context(ssl.PROTOCOL_TLS_CLIENT, a_server(), der),
            config=Configuration(ssl_target_name_override="localhost"),
        )
        self._broker: Any = None

    def _engine(self, storage: Storage) -> SecretsEngine:
        self.engines.append(WatchedEngine(storage, self.kmes.connect))
        return self.engines[-1]

    async def call(self, name: str, asked: Message, reply: type[Message], mount: str = "m") -> Any:
        method: Any = UnaryUnaryMethod(self.channel, name, type(asked), reply)
        return await method(asked, metadata={"multiplex_id": mount}, timeout=10)

    async def offer(self, service_id: int) -> None:
        """Say where the storage is, under a number."""
        at = host_pb2.ConnInfo(
            service_id=service_id, network="unix", address=str(self.storage_socket)
        )
        await self._broker.send_message(at)

    async def set_up(self, service_id: int, mount: str = "m") -> str:
        """The error, empty if there is none."""
        asked = pb.SetupArgs(broker_id=service_id)
        return str((await self.call("/pb.Backend/Setup", asked, pb.SetupReply, mount)).err)

    async def ask(self, operation: str, path: str, data: str = "", mount: str = "m") -> Any:
        asked = pb.HandleRequestArgs(request=pb.Request(operation=operation, path=path, data=data))
        return await self.call("/pb.Backend/HandleRequest", asked, pb.HandleRequestReply, mount)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        storage = Server([self.storage])
        await storage.start(path=str(self.storage_socket), ssl=self.listening)
        await self.plugin.start()
        method: Any = StreamStreamMethod(
            self.channel, "/plugin.GRPCBroker/StartStream", host_pb2.ConnInfo, host_pb2.ConnInfo
        )
        try:
            async with method.open() as self._broker:
                await self._broker.send_request()
                yield
                await self._broker.end()
        finally:
            await self.plugin.close()
            self.channel.close()
            storage.close()
            await asyncio.sleep(0.05)  # TLS says goodbye


def with_a_host(folder: Path, use: Callable[[Host], Any]) -> Host:
    """As it is when all is over."""

    async def run() -> Host:
        host = Host(folder)
        async with host.running():
            await use(host)
        return host

    return asyncio.run(asyncio.wait_for(run(), 30))
