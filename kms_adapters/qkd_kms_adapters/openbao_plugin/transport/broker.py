"""What any plugin offers the server: the broker, its output, its end, its version, its health."""

import asyncio
from collections.abc import Callable, Mapping

from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.server import Stream

from qkd_kms_adapters.openbao_plugin.transport.calls import Metadata, unary
from qkd_kms_adapters.openbao_plugin.transport.proto import host_pb2 as host
from qkd_kms_adapters.openbao_plugin.transport.proto import multiplexing_pb2 as multiplexing
from qkd_kms_adapters.openbao_plugin.transport.proto import version_pb2 as version

OFFER_S = 5.0  # the server's own patience
MOST_OFFERS = 64  # that nobody asked for yet: the server may have given their Setup up
AFTER_SHUTDOWN_S = 0.05  # for its answer to leave


class Broker:
    """Where the server says at which socket it offers a service, before or after we ask.

    ``opened`` once it has begun to; ``ended`` is called when it stops, or is gone.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self.opened = False
        self._ended = ended
        self._offers: dict[int, str] = {}  # not asked for yet, the oldest first
        self._asked: dict[int, asyncio.Future[str]] = {}  # not offered yet

    async def socket_of(self, service_id: int) -> str:
        """Raises TimeoutError."""
        if service_id in self._offers:
            return self._offers.pop(service_id)
        offer = self._asked[service_id] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(offer, OFFER_S)
        finally:
            del self._asked[service_id]

    def _offered(self, service_id: int, address: str) -> None:
        offer = self._asked.get(service_id)
        if offer is None:
            self._offers[service_id] = address
            if len(self._offers) > MOST_OFFERS:
                del self._offers[next(iter(self._offers))]
        elif not offer.done():
            offer.set_result(address)

    async def _start_stream(self, stream: "Stream[host.ConnInfo, host.ConnInfo]") -> None:
        await stream.send_initial_metadata()
        self.opened = True
        try:
            async for offered in stream:
                self._offered(offered.service_id, offered.address)
        finally:
            self._ended()

    def __mapping__(self) -> Mapping[str, Handler]:
        return {
            "/plugin.GRPCBroker/StartStream": Handler(
                self._start_stream, Cardinality.STREAM_STREAM, host.ConnInfo, host.ConnInfo
            )
        }


class Host:
    """The small services, each a fixed answer; ``stop`` is set when the server says so."""

    def __init__(self, stop: asyncio.Event, plugin_version: str) -> None:
        self._stop, self._version = stop, plugin_version

    async def _shutdown(self, asked: host.Empty, metadata: Metadata) -> host.Empty:
        asyncio.get_running_loop().call_later(AFTER_SHUTDOWN_S, self._stop.set)
        return host.Empty()

    async def _stdio(self, stream: "Stream[host.Empty, host.StdioData]") -> None:
        """Our output goes to stderr; the server only wants the stream to stay open."""
        await stream.recv_message()
        await stream.send_initial_metadata()
        await self._stop.wait()

    async def _multiplexing(
        self, asked: Message, metadata: Metadata
    ) -> multiplexing.MultiplexingSupportResponse:
        return multiplexing.MultiplexingSupportResponse(supported=True)

    async def _plugin_version(self, asked: Message, metadata: Metadata) -> version.VersionReply:
        return version.VersionReply(plugin_version=self._version)

    async def _health(self, asked: Message, metadata: Metadata) -> HealthCheckResponse:
        return HealthCheckResponse(status=HealthCheckResponse.SERVING)

    def __mapping__(self) -> Mapping[str, Handler]:
        return {
            "/plugin.GRPCController/Shutdown": unary(self._shutdown, host.Empty, host.Empty),
            "/plugin.GRPCStdio/StreamStdio": Handler(
                self._stdio, Cardinality.UNARY_STREAM, host.Empty, host.StdioData
            ),
            "/pluginutil.multiplexing.PluginMultiplexing/MultiplexingSupport": unary(
                self._multiplexing,
                multiplexing.MultiplexingSupportRequest,
                multiplexing.MultiplexingSupportResponse,
            ),
            "/logical.PluginVersion/Version": unary(
                self._plugin_version, version.Empty, version.VersionReply
            ),
            "/grpc.health.v1.Health/Check": unary(
                self._health, HealthCheckRequest, HealthCheckResponse
            ),
        }
