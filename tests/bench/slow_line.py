"""A TCP relay that keeps what it carries for a while: a line with a round-trip time.

    slow_line.py LISTEN_PORT TO_PORT ROUND_TRIP_S

It takes part of a processor, so figures over it are a little lower than over a real line.
"""

import socket
import sys
import threading
import time
from queue import Queue

PIECE = 1 << 18


def carry(source: socket.socket, target: socket.socket, delay_s: float) -> None:
    """Bring what comes from ``source`` to ``target``, so much later."""
    kept: Queue[tuple[float, bytes]] = Queue()

    def deliver() -> None:
        while True:
            due, data = kept.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
            except OSError:
                return

    threading.Thread(target=deliver, daemon=True).start()
    while True:
        try:
            data = source.recv(PIECE)
        except OSError:
            data = b""
        kept.put((time.monotonic() + delay_s, data))
        if not data:
            return


def main() -> None:
    listen, to, round_trip_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with socket.create_server(("127.0.0.1", listen)) as server:
        while True:
            near, _ = server.accept()
            try:
                far = socket.create_connection(("127.0.0.1", to))
            except OSError:
                near.close()
                continue
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, target in ((near, far), (far, near)):
                threading.Thread(
                    target=carry, args=(source, target, round_trip_s / 2), daemon=True
                ).start()


if __name__ == "__main__":
    main()
