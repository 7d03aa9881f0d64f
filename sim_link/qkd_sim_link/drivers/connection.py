"""A driver's connection to the process that simulates its device."""

import socket
from contextlib import suppress
from pathlib import Path
from threading import Lock

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import Provenance
from qkd_sim_link.tokens import checked_socket_path, read_token
from qkd_sim_link.wire import VERSION, Message, receive, send


class Connection:
    """A connection that is made when needed. One call at a time; every failure is LinkDown."""

    def __init__(self, socket_path: Path, token_path: Path, timeout_s: float) -> None:
        self._name, self._token_path = checked_socket_path(socket_path), token_path
        self._timeout_s = timeout_s
        self._lock = Lock()
        self._sock: socket.socket | None = None
        self._welcome = Message({})

    def welcome(self) -> Message:
        """What the server says of itself; connects if needed."""
        with self._lock:
            self._connected()
            return self._welcome

    def call(self, request: Message, *, extra_s: float = 0.0) -> Message:
        """The server's answer, at most ``timeout_s`` + ``extra_s`` after the request."""
        with self._lock:
            sock = self._connected()
            answer = self._exchange(sock, request, self._timeout_s + extra_s)
        if answer.header.get("ok") is not True:
            raise LinkDown(str(answer.header.get("error")))
        return answer

    def close(self) -> None:
        """Drop the connection; the next call makes another one."""
        with self._lock:
            self._drop()

    def break_off(self) -> None:
        """Drop the connection at once: a call that is under way is LinkDown then."""
        if self._lock.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._lock.release()
            return
        sock = self._sock
        if sock is not None:
            with suppress(OSError):  # it broke before
                sock.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> socket.socket:
        if self._sock is not None:
            return self._sock
        try:
            token = read_token(self._token_path)
            sock = self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(self._timeout_s)
            sock.connect(self._name)
        except (OSError, ConfigError) as error:
            self._drop()
            raise LinkDown(f"no connection to the link at {self._name}: {error}") from error
        hello = Message({"version": VERSION, "token": token.hex()})
        welcome = self._exchange(sock, hello, self._timeout_s)
        if welcome.header.get("provenance") != Provenance.SIMULATED.value:
            self._drop()
            raise LinkDown(f"the link at {self._name} does not say that it is simulated")
        self._welcome = welcome
        return sock

    def _exchange(self, sock: socket.socket, request: Message, seconds: float) -> Message:
        try:
            send(sock, request)
            return receive(sock, begin_s=seconds)
        except TimeoutError as error:
            self._drop()
            raise LinkDown(f"no answer from the link within {seconds:.3g} s") from error
        except (OSError, EOFError) as error:
            self._drop()
            raise LinkDown(f"the connection to the link broke: {error}") from error
        except LinkDown:  # malformed
            self._drop()
            raise

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
