"""gunicorn's threaded worker with TLS handshakes and deadlines that hold no thread and no loop.

As it comes (27.0), the worker gives every new connection a thread at once, in which a client may
linger over its handshake or its request without limit, and it closes connections in the accepting
loop, waiting up to two seconds for each client to close its end. So a handful of clients that say
nothing stops it. Here a connection waits in the poller until its client says something, the
handshake goes on step by step, a request gets a thread when it is here as a whole, and it has a
deadline for its reading and its writing.

And it is quicker: a thread keeps a busy client's connection while nobody else waits for a thread,
and an answer leaves in one piece. Each way through the loop, and each system call, may cost a
thread of a busy process its turn.
"""

import errno
import select
import selectors
import ssl
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from socket import SHUT_WR, socket
from typing import Any

from gunicorn import http, sock, util
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

from qkd_api.gathering import Budget, ClientLeft, Gathering, Overfull

HANDSHAKE_S = 5.0  # from the connection to the end of its TLS handshake
REQUEST_S = 10.0  # to read one request, and again to write its answer
LINGER_S, LINGER_BYTES = 1.0, 8 << 20  # for the rest of a refused body, so that its answer arrives
STOP_LINGER_S = 0.3  # for idle connections, when the worker stops
NEXT_REQUEST_MS = 10  # how long a thread that nobody else needs waits for a client's next request
HELD_BYTES = 64 << 10  # of an answer: what is longer leaves in several pieces
# An accept that fails so may succeed later; the last four when this machine is short of something.
PASSING = (
    *(errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EINTR),
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
)


class DeadlineSocket(ssl.SSLSocket):
    """A TLS socket on which "blocking" means: within the deadline of the current request."""

    _reading: bool | None = None
    _deadline = 0.0
    _held = b""

    def setblocking(self, flag: bool) -> None:
        """gunicorn calls it with True as each request begins."""
        self._reading = None
        self.settimeout(REQUEST_S if flag else 0.0)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Hold ``data`` until `flush`: gunicorn sends the head of an answer and its body apart."""
        self._held += data
        if len(self._held) > HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what is held. Raises OSError."""
        held, self._held = self._held, b""
        if held:
            super().sendall(held)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        self._mind_the_deadline(reading=True)
        try:
            return super().recv(buflen, flags)
        except TimeoutError:
            raise too_slow() from None

    def send(self, data: Any, flags: int = 0) -> int:
        """`sendall` comes here as well."""
        self._mind_the_deadline(reading=False)
        try:
            return super().send(data, flags)
        except TimeoutError:
            raise too_slow() from None

    def _mind_the_deadline(self, *, reading: bool) -> None:
        """Leave the next call what is left of the time. Raises ConnectionResetError at its end."""
        if not self.gettimeout():
            return
        now = time.monotonic()
        if self._reading is not reading:
            self._reading, self._deadline = reading, now + REQUEST_S
        if now >= self._deadline:
            raise too_slow()
        self.settimeout(self._deadline - now)


def too_slow() -> ConnectionResetError:
    """gunicorn drops a connection quietly for this error; a TimeoutError it takes for a defect."""
    return ConnectionResetError(errno.ECONNRESET, "the client is too slow")


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection that is greeted (TLS) before a thread waits for its request."""

    sock: Any

    def __init__(self, cfg: Any, sock: socket, client: Any, server: Any, budget: Budget) -> None:
        super().__init__(cfg, sock, client, server)
        self.gathering = Gathering(budget, REQUEST_S)
        self.timeout = time.monotonic() + HANDSHAKE_S
        self.greeted_by = self.timeout
        self.closed = False

    def greet(self) -> None:
        """Go on with the handshake as far as the client's bytes allow. Raises OSError."""
        if not isinstance(self.sock, ssl.SSLSocket):
            self.sock = sock.ssl_wrap_socket(self.sock, self.cfg)
        with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.sock.do_handshake()
            self.parser = http.get_parser(self.cfg, self.sock, self.client)
            self.initialized = True

    def gathered(self) -> bool:
        """Whether the next request is here, and with the parser. Raises ClientLeft, Overfull."""
        unreader = self.parser.unreader
        whole = self.gathering.read(self.sock, unreader.take_buffered())
        if whole is not None:
            unreader.unread(whole)
        return whole is not None

    def part(self) -> None:
        """Close in the good manner of TLS and TCP: say so, and wait a moment for the client."""
        if isinstance(self.sock, ssl.SSLSocket) and not self.closed:
            self.sock.settimeout(0.0)
            with suppress(OSError, ValueError):
                self.sock.unwrap()  # sends close_notify; the client's is not waited for
        self.closed = True
        util.close_graceful(self.sock, timeout=LINGER_S, max_drain=LINGER_BYTES)

    def close(self, graceful: bool = False) -> None:
        """Called in the accepting loop, which must not wait."""
        self.gathering.let_go()
        if not self.closed:
            with suppress(OSError):
                self.sock.shutdown(SHUT_WR)
            self.closed = True
            util.close(self.sock)


class TlsWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """See the module's text. A request holds a thread once it is here as a whole."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.budget = Budget()

    def accept(self, listener: Any) -> None:
        """Let the new connection wait in the poller for its client's first bytes."""
        try:
            client_sock, client_addr = listener.accept()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            return
        self.nr_conns += 1
        conn = Connection(self.cfg, client_sock, client_addr, listener.getsockname(), self.budget)
        self._await_bytes(conn)

    def handle(self, conn: Connection) -> Any:
        """In a thread: go on with the handshake, or serve one request."""
        if not conn.initialized:
            return self._greeted(conn)
        again = self._served(conn)
        while again is True and self._has_more(conn):
            again = self._served(conn)
        if not again:
            conn.part()
        return again

    def _served(self, conn: Connection) -> Any:
        """Serve one request; whether the connection is kept, or waits for the rest of it."""
        try:
            if not conn.gathered():
                if self.alive:
                    return _DEFER
                # A worker that stops sees a request that has begun through to its end.
                conn.parser.unreader.unread(conn.gathering.let_go())
        except ClientLeft:
            return False
        except Overfull:
            self.log.warning("%s sends too much at a time", conn.client[0])
            return False
        again = super().handle(conn)
        try:
            conn.sock.flush()
        except OSError:  # the client is gone, or too slow
            return False
        return again

    def _has_more(self, conn: Connection) -> bool:
        """Whether the client's next request is here soon, and nobody waits for this thread."""
        if not self.alive or not self.tpool._work_queue.empty():
            return False
        if conn.sock.pending() or conn.parser.unreader.buf.getvalue():
            return True
        readable = select.poll()
        readable.register(conn.sock, select.POLLIN)
        return bool(readable.poll(NEXT_REQUEST_MS))

    def _greeted(self, conn: Connection) -> Any:
        """After the handshake the connection goes back to the poller, until a request comes."""
        try:
            conn.greet()
        except (ssl.SSLEOFError, ConnectionError):  # a probe of the port, not worth a line
            return False
        except OSError as error:  # ssl.SSLError among them
            self.log.warning(
                "TLS handshake with %s failed: %s", conn.client[0], getattr(error, "reason", error)
            )
            return False
        return self.handle(conn) if conn.initialized and conn.sock.pending() else _DEFER

    def finish_request(self, conn: Connection, fs: "Future[Any]") -> None:
        """In the loop, after `handle`."""
        super().finish_request(conn, fs)
        if not conn.initialized:
            conn.timeout = conn.greeted_by
        elif conn.gathering.due is not None:
            conn.timeout = conn.gathering.due

    def murder_pending(self) -> None:
        """Close connections that stayed silent; handshakes and idle ones have different limits."""
        now = time.monotonic()
        for conn in [each for each in self.pending_conns if each.timeout <= now]:
            self.pending_conns.remove(conn)
            with suppress(OSError, KeyError, ValueError):
                self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            conn.close()

    def _cap_keepalive(self, deadline: float) -> None:
        now = time.monotonic()
        super()._cap_keepalive(min(deadline, now + STOP_LINGER_S))
        for conn in list(self.pending_conns):
            if conn.gathering.due is not None:
                self.on_pending_socket_readable(conn, conn.sock)  # a thread waits for the rest
            conn.timeout = min(conn.timeout, now + STOP_LINGER_S)

    def _await_bytes(self, conn: Connection) -> None:
        self.pending_conns.append(conn)
        self.poller.register(
            conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn)
        )
