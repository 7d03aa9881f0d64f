"""An answer leaves in one piece: one TLS record and one system call in place of three.

grpclib writes an answer's head, its message and its trailer apart, and the writes are a third of
what a request costs.
"""

import asyncio
from typing import Any, cast

from grpclib.protocol import H2Protocol
from grpclib.server import Server


class OnePieceServer(Server):
    """grpclib's server, with what one turn of the event loop writes held until its end."""

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        connection_made = protocol.connection_made

        def made(transport: asyncio.BaseTransport) -> None:
            connection_made(cast(asyncio.Transport, OnePiece(transport)))

        protocol.connection_made = made  # type: ignore[method-assign]
        return protocol


class OnePiece:
    """A transport in all but ``write``."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._call_soon = asyncio.get_running_loop().call_soon
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._held:
            self._call_soon(self._let_go)
        self._held.append(data)

    def close(self) -> None:
        self._let_go()
        self._transport.close()

    def _let_go(self) -> None:
        held, self._held = self._held, []
        if held:
            self._transport.write(b"".join(held))
