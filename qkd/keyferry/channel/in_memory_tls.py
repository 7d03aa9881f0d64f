"""TLS between two buffers: what it wants to send and what has come are for others to carry."""

import socket
import ssl
from threading import Lock
from typing import Any, cast

PIECE_BYTES = 1 << 18  # what goes through TLS at once


class InMemory:
    """TLS between two buffers. Any thread may use it."""

    def __init__(self, context: ssl.SSLContext, *, server: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server)
        self._lock = Lock()
        self.ended = False  # the peer has closed
        self.certificate: dict[str, Any] = {}  # of the peer, after the handshake

    def shake_hands(self, plain: socket.socket) -> None:
        """Over a socket that blocks, with its timeout. Raises OSError (SSLError is one)."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                plain.sendall(self._outgoing.read())
                data = plain.recv(PIECE_BYTES)
                if not data:
                    raise ConnectionResetError("closed during the handshake") from None
                self._incoming.write(data)
            else:
                plain.sendall(self._outgoing.read())
                self.certificate = dict(self._tls.getpeercert() or {})
                return

    def sealed(self, data: memoryview) -> bytes:
        """``data`` on its way out."""
        with self._lock:
            self._tls.write(data)
            return self._outgoing.read()

    @property
    def unread(self) -> int:
        """Bytes that came from the network and are still sealed."""
        return self._incoming.pending

    def take_in(self, data: bytes) -> None:
        """What came from the network; nothing means that the peer has closed."""
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def opened_into(self, view: memoryview) -> int:
        """Put into ``view`` what has come, and return how many bytes; 0 when none has."""
        with self._lock:
            incoming = self._incoming
            if not (incoming.pending or incoming.eof or self._tls.pending()):
                return 0  # an exception for it would cost more than the rest
            try:
                got = cast(int, self._tls.read(len(view), cast(Any, view)))
            except ssl.SSLWantReadError:
                return 0
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                got = 0
            self.ended = self.ended or not got
            return got
