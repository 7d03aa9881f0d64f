"""A request is gathered without a thread: a client that drips holds bytes, and nothing else.

Whatever cannot be a good request, or is too long for one, is handed over as it is: the parser
refuses it at once, and says why.
"""

import re
import ssl
import time
from collections.abc import Callable
from threading import Lock

from qkd_api.arguments import LARGEST_BODY_BYTES

LARGEST_HEAD_BYTES = 64 << 10  # the parser refuses less than that
FREE_BYTES = 16 << 10  # of each connection: more than any request for keys needs
BUDGET_BYTES = 64 << 20  # above the free ones, over all connections
READ_BYTES = 16 << 10  # a TLS record

END_OF_HEAD = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)
FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
EXPECT = re.compile(rb"\r\nexpect:[^\r\n]*(?=\r\n)", re.IGNORECASE)
CHUNK_HEAD = re.compile(rb"([0-9a-fA-F]{1,8})(?:;[^\r\n]*)?\r\n")


class ClientLeft(Exception):
    """The connection ended, or broke, within a request or before it."""


class Overfull(Exception):
    """All connections together hold more than a worker has room for."""


class Budget:
    """Bytes that gathering requests may hold beyond the free ones. Thread-safe."""

    def __init__(self, n_bytes: int = BUDGET_BYTES) -> None:
        self._left, self._lock = n_bytes, Lock()

    def take(self, n_bytes: int) -> None:
        """Raises Overfull."""
        with self._lock:
            if n_bytes > self._left:
                raise Overfull
            self._left -= n_bytes

    def give_back(self, n_bytes: int) -> None:
        with self._lock:
            self._left += n_bytes


class Gathering:
    """The next request of one connection, as far as it has come; used by one thread at a time."""

    def __init__(self, budget: Budget, limit_s: float) -> None:
        self.due: float | None = None  # when a request that has begun must be whole
        self._budget, self._limit_s = budget, limit_s
        self._data = bytearray()
        self._taken = 0
        self._whole: Callable[[], bool] = self._head_is_here

    def read(self, sock: ssl.SSLSocket, begun: bytes) -> bytes | None:
        """The request with what came behind it, None while it is not whole.

        ``begun``: what was read ahead of it already. ``sock`` is left non-blocking. Raises
        ClientLeft, Overfull.
        """
        self._data += begun
        sock.setblocking(False)
        while not self._whole():
            try:
                part = sock.recv(READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._wait()
                return None
            except OSError as error:
                raise ClientLeft from error
            if not part:
                raise ClientLeft
            self._data += part
            self._mind_the_budget()
        return self.let_go()

    def _wait(self) -> None:
        if self._data and self.due is None:
            self.due = time.monotonic() + self._limit_s

    def let_go(self) -> bytes:
        """What has come, whole or not; the next request begins with nothing."""
        whole = bytes(self._data)
        self._data.clear()
        self._budget.give_back(self._taken)
        self._taken, self.due, self._whole = 0, None, self._head_is_here
        return whole

    def _mind_the_budget(self) -> None:
        above = max(0, len(self._data) - FREE_BYTES) - self._taken
        if above > 0:
            self._budget.take(above)
            self._taken += above

    def _head_is_here(self) -> bool:
        end = self._data.find(END_OF_HEAD)
        if end < 0:
            return len(self._data) > LARGEST_HEAD_BYTES
        head = bytes(self._data[: end + 2])
        framings = len(FRAMING.findall(head))
        if not framings:
            return True
        # The whole body is gathered before anybody could send a 100 Continue.
        begin = end + len(END_OF_HEAD)
        if EXPECT.search(head):
            head = EXPECT.sub(b"", head)
            self._data[: end + 2] = head
            begin = len(head) + 2
        length, chunked = LENGTH.search(head), CHUNKED.search(head)
        if framings > 1 or not (length or chunked):
            return True  # nothing that the parser takes
        self._whole = _Chunks(self._data, begin).are_here
        if length:
            need = begin + int(length.group(1))
            if need - begin > LARGEST_BODY_BYTES:
                return True
            self._whole = lambda: len(self._data) >= need
        return self._whole()


class _Chunks:
    """Follows the chunks of a body as they come (RFC 9112, section 7.1)."""

    def __init__(self, data: bytearray, begin: int) -> None:
        self._data, self._begin, self._next = data, begin, begin

    def are_here(self) -> bool:
        """Also when they are malformed, or too many."""
        while len(self._data) - self._begin <= LARGEST_BODY_BYTES:
            head = CHUNK_HEAD.match(self._data, self._next)
            if head is None:
                line = self._data[self._next : self._next + FREE_BYTES]
                return b"\n" in line or len(line) == FREE_BYTES
            n_bytes = int(head.group(1), 16)
            if n_bytes == 0:  # trailers, if any, and an empty line
                return self._data.find(END_OF_HEAD, head.end() - 2) >= 0
            if len(self._data) < head.end() + n_bytes + 2:
                return False
            self._next = head.end() + n_bytes + 2
        return True
