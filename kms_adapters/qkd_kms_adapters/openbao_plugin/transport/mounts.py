"""The backend service: an engine for each mount that the server sets up in this process."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping

from grpclib.const import Handler

from qkd_kms_adapters.openbao_plugin.engine.engine import SPECIAL_PATHS, SecretsEngine
from qkd_kms_adapters.openbao_plugin.engine.messages import Refused
from qkd_kms_adapters.openbao_plugin.engine.storage import Storage
from qkd_kms_adapters.openbao_plugin.transport.broker import Broker
from qkd_kms_adapters.openbao_plugin.transport.calls import Metadata, unary
from qkd_kms_adapters.openbao_plugin.transport.proto import backend_pb2 as pb
from qkd_kms_adapters.openbao_plugin.transport.storage import BrokeredStorage
from qkd_kms_adapters.openbao_plugin.transport.translating import (
    error_message,
    error_reply,
    request_of,
    response_message,
)

log = logging.getLogger(__name__)

MOUNT = "multiplex_id"  # metadata that names the mount, when the process has several
SECRETS = 1  # the type of a secrets engine
INTERNAL_ERROR = 500


class Mounts:
    """Registration sets up a mount as well, whose storage refuses every call."""

    def __init__(
        self,
        broker: Broker,
        client_context: ssl.SSLContext,
        make_engine: Callable[[Storage], SecretsEngine],
    ) -> None:
        self._broker, self._context, self._make_engine = broker, client_context, make_engine
        self._mounts: dict[str, tuple[SecretsEngine, BrokeredStorage]] = {}

    async def close(self) -> None:
        mounts, self._mounts = self._mounts, {}
        await asyncio.gather(*map(_closed, mounts.values()))  # there is little time at the end

    def _engine(self, metadata: Metadata) -> SecretsEngine:
        """Raises Refused for a mount that was never set up, or is given up."""
        mount = self._mounts.get(_mount(metadata))
        if mount is None:
            raise Refused(INTERNAL_ERROR, "the plugin does not have this mount: reload the plugin")
        return mount[0]

    async def _set_up(self, asked: pb.SetupArgs, metadata: Metadata) -> pb.SetupReply:
        mount = _mount(metadata)
        try:
            socket = await self._broker.socket_of(asked.broker_id)
        except TimeoutError:
            log.error("the server offers no storage for mount %s", mount)
            return pb.SetupReply(err="the server offered no storage")
        storage = BrokeredStorage(socket, self._context)
        replaced = self._mounts.get(mount)
        self._mounts[mount] = (self._make_engine(storage), storage)
        await _closed(replaced)
        return pb.SetupReply()

    async def _initialize(self, asked: pb.InitializeArgs, metadata: Metadata) -> pb.InitializeReply:
        """Fails for an unknown mount only: the server would say so, and leave it in place."""
        try:
            await self._engine(metadata).initialize()
        except Refused as refused:
            return pb.InitializeReply(err=error_message(refused, "its initialization"))
        return pb.InitializeReply()

    async def _type(self, asked: pb.Empty, metadata: Metadata) -> pb.TypeReply:
        return pb.TypeReply(type=SECRETS)

    async def _special_paths(self, asked: pb.Empty, metadata: Metadata) -> pb.SpecialPathsReply:
        return pb.SpecialPathsReply(paths=pb.Paths(**SPECIAL_PATHS))

    async def _handle(
        self, asked: pb.HandleRequestArgs, metadata: Metadata
    ) -> pb.HandleRequestReply:
        try:
            response = await self._engine(metadata).handle(request_of(asked.request))
        except Exception as error:  # each has its answer
            return error_reply(error, asked.request.path)
        if response is None:
            return pb.HandleRequestReply()
        return pb.HandleRequestReply(response=response_message(response))

    async def _exists(
        self, asked: pb.HandleExistenceCheckArgs, metadata: Metadata
    ) -> pb.HandleExistenceCheckReply:
        try:
            exists = await self._engine(metadata).exists(request_of(asked.request))
        except Exception as error:
            return pb.HandleExistenceCheckReply(err=error_message(error, asked.request.path))
        return pb.HandleExistenceCheckReply(check_found=exists is not None, exists=bool(exists))

    async def _invalidate(self, asked: pb.InvalidateKeyArgs, metadata: Metadata) -> pb.Empty:
        """A mount that is unknown remembers nothing."""
        mount = self._mounts.get(_mount(metadata))
        if mount is not None:
            mount[0].invalidate(asked.key)
        return pb.Empty()

    async def _clean_up(self, asked: pb.Empty, metadata: Metadata) -> pb.Empty:
        await _closed(self._mounts.pop(_mount(metadata), None))
        return pb.Empty()

    def __mapping__(self) -> Mapping[str, Handler]:
        calls = {
            "Setup": unary(self._set_up, pb.SetupArgs, pb.SetupReply),
            "Initialize": unary(self._initialize, pb.InitializeArgs, pb.InitializeReply),
            "Type": unary(self._type, pb.Empty, pb.TypeReply),
            "SpecialPaths": unary(self._special_paths, pb.Empty, pb.SpecialPathsReply),
            "HandleRequest": unary(self._handle, pb.HandleRequestArgs, pb.HandleRequestReply),
            "HandleExistenceCheck": unary(
                self._exists, pb.HandleExistenceCheckArgs, pb.HandleExistenceCheckReply
            ),
            "InvalidateKey": unary(self._invalidate, pb.InvalidateKeyArgs, pb.Empty),
            "Cleanup": unary(self._clean_up, pb.Empty, pb.Empty),
        }
        return {f"/pb.Backend/{name}": handler for name, handler in calls.items()}


async def _closed(mount: tuple[SecretsEngine, BrokeredStorage] | None) -> None:
    if mount is not None:
        engine, storage = mount
        try:
            await engine.close()
        finally:
            storage.close()


def _mount(metadata: Metadata) -> str:
    return str(metadata.get(MOUNT, ""))
