"""A Unix socket in the state directory for this machine's operators; the kernel says who calls.

One JSON object a line, one request and one answer per connection. The socket has mode 0600, and the
peer credentials must be root's or the service's own; they go into the audit with the order.
"""

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qkd_core.errors import ConfigError, QkdError

log = logging.getLogger(__name__)

SOCKET_FILE = "operator.sock"
REQUEST_BYTES, ANSWER_BYTES = 64 << 10, 4 << 20
REQUEST_S, ANSWER_S = 5.0, 600.0  # reconciling takes its time
CALLERS_AT_ONCE = 8
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED

Handler = Callable[[Mapping[str, Any], "Caller"], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who orders something, as the audit names it."""

    uid: int

    def __str__(self) -> str:
        return f"uid {self.uid}"


@contextmanager
def reachable(folder: Path) -> Iterator[Path]:
    """A short path to the socket in ``folder``, however long the folder's own path is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}") / SOCKET_FILE
    finally:
        os.close(descriptor)


class OperatorServer:
    """Serves ``handle`` until it is closed. Raises ConfigError when it cannot listen."""

    def __init__(self, folder: Path, handle: Handler) -> None:
        self._folder, self._handle = folder, handle
        self._room = threading.BoundedSemaphore(CALLERS_AT_ONCE)
        self._socket = listening(folder)
        self._thread = threading.Thread(target=self._accept, name="operator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more orders; one that is being carried out goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        (self._folder / SOCKET_FILE).unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            if not self._room.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(REQUEST_S)
                answer = self._answer(connection)
                connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError as error:
            log.info("an operator's connection ended: %s", error)
        finally:
            self._room.release()

    def _answer(self, connection: socket.socket) -> Mapping[str, Any]:
        caller = caller_of(connection)
        if caller.uid not in (0, os.geteuid()):
            log.warning("%s is refused at the operator socket", caller)
            return {"error": f"{caller} may not give orders here"}
        try:
            request = json.loads(read_line(connection, REQUEST_BYTES))
            if not isinstance(request, dict):
                return {"error": "the request is not an object"}
            return self._handle(request, caller)
        except QkdError as error:
            return {"error": str(error), "kind": type(error).__name__}
        except ValueError as error:
            return {"error": f"the request is not understood: {error}"}
        except Exception as error:
            log.exception("an order failed")
            return {"error": f"unexpected {type(error).__name__}: see the log"}


def listening(folder: Path) -> socket.socket:
    """The listening socket, mode 0600, in place of one that nobody serves any more."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with reachable(folder) as path:
            (folder / SOCKET_FILE).unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
        listener.listen(CALLERS_AT_ONCE)
    except OSError as error:
        listener.close()
        raise ConfigError(f"{folder / SOCKET_FILE}: cannot listen: {error}") from error
    return listener


def caller_of(connection: socket.socket) -> Caller:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, uid, _ = CREDENTIALS.unpack(data)
    return Caller(uid)


def read_line(connection: socket.socket, limit: int) -> bytes:
    """Raises ValueError for a line that is too long or does not end."""
    data = bytearray()
    while not data.endswith(b"\n"):
        part = connection.recv(65536)
        data += part
        if len(data) > limit:
            raise ValueError(f"more than {limit} bytes")
        if not part:
            raise ValueError("it ended in the middle of a line")
    return bytes(data)


def ask(folder: Path, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer of the running site; None when nobody serves the socket.

    Raises QkdError for an answer that is none.
    """
    if not folder.is_dir():
        return None
    with (
        reachable(folder) as path,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
    ):
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as error:
            raise ConfigError(f"{folder / SOCKET_FILE}: {error.strerror}") from error
        except BlockingIOError as error:
            raise QkdError("the running site is busy with other operators") from error
        try:
            with suppress(BrokenPipeError):  # refused before it was read: the answer says why
                connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(read_line(connection, ANSWER_BYTES))
        except (OSError, ValueError) as error:
            raise QkdError(f"the running site did not answer: {error}") from error
    if not isinstance(answer, dict):
        raise QkdError("the running site did not answer with an object")
    return answer
