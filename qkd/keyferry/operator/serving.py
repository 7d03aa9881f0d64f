"""The operator socket of a site, served by whichever jobs process leads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keyferry.operator.socket import Handler, OperatorServer

LOOK_S = 0.2


@contextmanager
def serving_while(leading: threading.Event, folder: Path, handle: Handler) -> Iterator[None]:
    """Serve from the moment that ``leading`` is set, until the context ends."""
    done = threading.Event()
    servers: list[OperatorServer] = []

    def begin() -> None:
        while not done.is_set():
            if leading.wait(LOOK_S):
                servers.append(OperatorServer(folder, handle))
                return

    thread = threading.Thread(target=begin, name="operator-start", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        for server in servers:
            server.close()
