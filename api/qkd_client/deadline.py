"""An HTTPS connection whose whole call has one time limit, and that another thread can end."""

import socket
import ssl
import threading
import time
from contextlib import suppress
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Deadline:
    """When the call under way is over. Raises TimeoutError when asked for time after that."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = 0.0

    def start(self) -> None:
        self._end = time.monotonic() + self.timeout_s

    def left_s(self) -> float:
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s


class DeadlineConnection(HTTPSConnection):
    """Connecting, the handshake, sending and reading share one time limit.

    A plain socket's timeout begins anew with each byte that arrives. Looking up a host name is the
    one step that no limit reaches: Python's resolver has none.
    """

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext, *, deadline: Deadline
    ) -> None:
        """``context``: of `qkd_client.tls`, whose sockets know of a time limit."""
        if not issubclass(context.sslsocket_class, DeadlineSocket):
            raise ValueError("a KME's client takes a TLS context of qkd_client.tls")
        super().__init__(host, port, context=context)
        self.aborted = False
        self._tls = context
        self._deadline = deadline
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None

    def connect(self) -> None:
        """Try the host's addresses in turn. Raises OSError."""
        plain = self._connected()
        try:
            plain.settimeout(self._deadline.left_s())  # of the whole handshake
            secured = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
        self.sock = cast(DeadlineSocket, secured)
        self.sock.deadline = self._deadline

    def release(self) -> None:
        """Drop what `abort` holds, which keeps a closed connection open. To be called after a call.

        Not a part of `close`, which http.client calls as soon as an answer begins that is the
        connection's last.
        """
        with self._lock:
            if self._handle is not None and self.sock is None:
                self._handle.close()
                self._handle = None

    def abort(self) -> None:
        """End what another thread waits for here, with an OSError there. No call works after it."""
        with self._lock:
            self.aborted = True
            if self._handle is not None:
                with suppress(OSError):  # it is not connected yet, or not any more
                    self._handle.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> socket.socket:
        failure = OSError(f"{self.host} has no address")
        addresses = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            plain = socket.socket(family, kind, protocol)
            try:
                self._hold(plain)
                shares = len(addresses) - tried  # a dead address leaves time for the others
                plain.settimeout(self._deadline.left_s() / shares)
                plain.connect(address)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._go_on()  # `abort` has no hold on a socket that is about to connect
                return plain
            except OSError as error:
                plain.close()
                failure = error
        raise failure

    def _hold(self, plain: socket.socket) -> None:
        """Keep a second descriptor of the connection for `abort`.

        The first is closed by whoever reads the last byte. Its number may then be another socket's.
        """
        with self._lock:
            self._go_on()
            if self._handle is not None:
                self._handle.close()
            self._handle = plain.dup()

    def _go_on(self) -> None:
        if self.aborted:
            raise ConnectionAbortedError("given up")


class DeadlineSocket(ssl.SSLSocket):
    """Each step gets what is left of the call, if it has a deadline."""

    deadline: Deadline | None = None

    def send(self, data: "ReadableBuffer", flags: int = 0) -> int:
        self._hurry()
        return super().send(data, flags)

    def recv_into(
        self, buffer: "WriteableBuffer", nbytes: int | None = None, flags: int = 0
    ) -> int:
        self._hurry()
        return super().recv_into(buffer, nbytes, flags)

    def _hurry(self) -> None:
        if self.deadline is not None:
            self.settimeout(self.deadline.left_s())
