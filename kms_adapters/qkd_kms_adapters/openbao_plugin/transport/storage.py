"""The mount's storage, which the server offers over a connection back to itself."""

import ssl
from collections.abc import Awaitable
from typing import TypeVar

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.exceptions import GRPCError, StreamTerminatedError

from qkd_kms_adapters.openbao_plugin.engine.messages import ReadOnlyStorage
from qkd_kms_adapters.openbao_plugin.engine.storage import StorageFailed
from qkd_kms_adapters.openbao_plugin.transport.proto import backend_pb2 as pb

READ_ONLY = "cannot write to readonly storage"  # the server's words, on a standby
TIMEOUT_S = 10.0
HOST_NAME = "localhost"  # in the server's certificate

Reply = TypeVar("Reply")


class BrokeredStorage:
    """`engine.storage.Storage` over the unix socket that the server has opened for this mount."""

    def __init__(self, socket: str, context: ssl.SSLContext) -> None:
        """Connects at the first call."""
        self._channel = Channel(
            path=socket, ssl=context, config=Configuration(ssl_target_name_override=HOST_NAME)
        )
        self._get = UnaryUnaryMethod(
            self._channel, "/pb.Storage/Get", pb.StorageGetArgs, pb.StorageGetReply
        )
        self._put = UnaryUnaryMethod(
            self._channel, "/pb.Storage/Put", pb.StoragePutArgs, pb.StoragePutReply
        )
        self._delete = UnaryUnaryMethod(
            self._channel, "/pb.Storage/Delete", pb.StorageDeleteArgs, pb.StorageDeleteReply
        )
        self._list = UnaryUnaryMethod(
            self._channel, "/pb.Storage/List", pb.StorageListArgs, pb.StorageListReply
        )

    async def get(self, key: str) -> bytes | None:
        reply = await _answered(self._get(pb.StorageGetArgs(key=key), timeout=TIMEOUT_S))
        _check(reply.err)
        return reply.entry.value if reply.HasField("entry") else None

    async def put(self, key: str, value: bytes, *, seal_wrap: bool = False) -> None:
        entry = pb.StorageEntry(key=key, value=value, seal_wrap=seal_wrap)
        _check((await _answered(self._put(pb.StoragePutArgs(entry=entry), timeout=TIMEOUT_S))).err)

    async def delete(self, key: str) -> None:
        asked = pb.StorageDeleteArgs(key=key)
        _check((await _answered(self._delete(asked, timeout=TIMEOUT_S))).err)

    async def list(self, prefix: str) -> list[str]:
        reply = await _answered(self._list(pb.StorageListArgs(prefix=prefix), timeout=TIMEOUT_S))
        _check(reply.err)
        return list(reply.keys)

    def close(self) -> None:
        self._channel.close()


async def _answered(call: Awaitable[Reply]) -> Reply:
    """Raises StorageFailed when the server does not answer."""
    try:
        return await call
    except (TimeoutError, GRPCError, StreamTerminatedError, OSError) as error:
        raise StorageFailed(f"the server's storage did not answer: {error!r}") from error


def _check(error: str) -> None:
    if READ_ONLY in error:
        raise ReadOnlyStorage
    if error:
        raise StorageFailed(error)
