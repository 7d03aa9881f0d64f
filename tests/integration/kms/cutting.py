"""A TCP relay between an adapter and its server that loses the reply to one request."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread


class Cutter:
    """Relays to ``port``; counts requests and loses the reply to the one it is told to.

    A request begins with the first bytes from the client after a reply; for that the connection
    is TLS 1.3 with one request at a time, the handshake aside: its flights are counted, too.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._lock = Lock()
        self._cut_at: int | None = None
        self._then: Callable[[], object] | None = None
        self.exchanges = 0
        self.connections = 0
        self._threads: list[Thread] = []
        self._open: list[socket.socket] = []

    def cut(self, nth: int | None, then: Callable[[], object] | None = None) -> None:
        """Lose the reply to the ``nth`` exchange from now on, counted from 1; None: to none.

        ``then`` is called in its place: to kill the server, for example.
        """
        with self._lock:
            self.exchanges = 0
            self._cut_at, self._then = nth, then

    def was_cut(self) -> bool:
        """Whether the reply that was to be lost is lost."""
        with self._lock:
            return self._cut_at is None

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:  # closed: the end
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._target))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else 40 ms a request
            self._open += [client, server]
            state = {"asking": False, "cut": False}
            for source, sink, asks in ((client, server, True), (server, client, False)):
                thread = Thread(target=self._relay, args=(source, sink, asks, state), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _relay(
        self, source: socket.socket, sink: socket.socket, asks: bool, state: dict[str, bool]
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if asks:
                    if not state["asking"]:
                        state["asking"] = True
                        state["cut"] = self._counted()
                elif state["cut"]:
                    if self._then is not None:
                        self._then()
                    break  # the server has answered, thus acted; nobody hears of it
                else:
                    state["asking"] = False
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _counted(self) -> bool:
        """Whether the reply to the exchange that begins now is to be lost."""
        with self._lock:
            self.exchanges += 1
            if self.exchanges == self._cut_at:
                self._cut_at = None
                return True
            return False

    def close(self) -> None:
        for end in (self._listening, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(5)


@contextmanager
def cutter(port: int) -> Iterator[Cutter]:
    relay = Cutter(port)
    thread = Thread(target=relay.serve, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
        thread.join(5)
