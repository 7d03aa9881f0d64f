"""Breaks a process's network at its n-th call: the request is lost, or the reply is."""

import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

CALLS = (
    (socket.socket, ("connect", "sendall", "recv_into")),
    (ssl.SSLSocket, ("do_handshake", "sendall", "recv_into")),
)
METHODS = (b"GET ", b"PUT ", b"POST ", b"PATCH ", b"LIST ", b"DELETE ")


class Network:
    """Counts what the thread that armed it sends and receives as a client.

    labels   of each call: its name, the port it goes to, the request that it is part of, and how
             many calls were alike before it; the same in each run that does the same
    deed     what happens instead of a broken connection, for a test that kills the server
    """

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.hit = False
        self._thread: int | None = None
        self._at, self._after = "", False
        self._request = ""
        self._deed: Callable[[], None] | None = None

    def arm(
        self, at: str = "", *, after: bool = False, deed: Callable[[], None] | None = None
    ) -> None:
        """Label from now on; break the call ``at`` before or after it is made, if there is one."""
        self.labels, self.hit, self._request = [], False, ""
        self._alike: Counter[str] = Counter()
        self._at, self._after, self._deed = at, after, deed
        self._thread = threading.get_ident()

    def disarm(self) -> None:
        self._thread = None

    def call(self, name: str, original: Callable[..., Any], end: Any, *arguments: Any) -> Any:
        if threading.get_ident() != self._thread:
            return original(end, *arguments)
        label = f"{name} {self._what(name, end, arguments)}"
        self._alike[label] += 1
        self.labels.append(f"{label} #{self._alike[label]}")
        if self.labels[-1] != self._at:
            return original(end, *arguments)
        self.hit = True
        if self._after:
            original(end, *arguments)
        if self._deed is not None:
            self._deed()
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)  # at once, whoever else still has the socket
        end.close()
        raise ConnectionResetError("cut by the test")

    def _what(self, name: str, end: Any, arguments: tuple[Any, ...]) -> str:
        if name == "connect":
            return f"{arguments[0][1]}"
        if name == "sendall" and bytes(arguments[0][:8]).startswith(METHODS):
            head = bytes(arguments[0]).split(b" HTTP/", 1)[0].decode()
            self._request = re.sub(r"/test-\d+", "/test", head)  # each run has a path of its own
        return f"{end.getpeername()[1]} {self._request}"


@contextmanager
def broken_network() -> Iterator[Network]:
    """While it lasts, every socket of this process is looked at."""
    network = Network()
    for owner, names in CALLS:
        for name in names:
            setattr(owner, name, _wrapped(network, name, getattr(owner, name)))
    try:
        yield network
    finally:
        for owner, names in CALLS:
            for name in names:
                _put_back(owner, name)


ORIGINALS = {(owner, name): owner.__dict__.get(name) for owner, names in CALLS for name in names}
"""None where the class inherits it."""


def _put_back(owner: type, name: str) -> None:
    original = ORIGINALS[owner, name]
    if original is None:
        delattr(owner, name)
    else:
        setattr(owner, name, original)


def _wrapped(network: Network, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def call(end: Any, *arguments: Any) -> Any:
        return network.call(name, original, end, *arguments)

    return call
