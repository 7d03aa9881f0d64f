"""Where two engines of one process meet, over wires that may be attacked."""

from collections.abc import Callable
from queue import Empty, Queue
from threading import Event, Lock

from keyferry.channel.frames import Frame
from qkd_core.errors import ChannelError, Silent
from qkd_core.types.ids import Side

Tamper = Callable[[Side, Frame], list[Frame]]


def as_sent(_receiver: Side, frame: Frame) -> list[Frame]:
    return [frame]


class Wire:
    """One end of a connection; what ``tamper`` makes of a frame arrives instead of it."""

    def __init__(self, side: Side, ways: dict[Side, Queue], tamper: Tamper) -> None:
        self.side, self.ways, self.tamper = side, ways, tamper
        self.closed = Event()

    def send(self, frame: Frame) -> None:
        if self.closed.is_set():
            raise ChannelError("the connection broke while sending")
        body = bytes(frame.body)  # the sender's buffer is its own again
        self.put(frame._replace(body=body))

    def put(self, frame: Frame) -> None:
        for each in self.tamper(self.side.other, frame):
            self.ways[self.side.other].put(each)

    def receive(self, timeout_s: float) -> Frame:
        try:
            frame = self.ways[self.side].get(timeout=timeout_s)
        except Empty:
            raise Silent("the peer is silent") from None
        if frame is None:
            self.ways[self.side].put(None)
            raise ChannelError("the peer closed the connection")
        return frame

    def close(self) -> None:
        self.closed.set()
        for way in self.ways.values():
            way.put(None)


class Exchange:
    """Where the two engines meet: each connection has new queues."""

    def __init__(self, tamper: Tamper) -> None:
        self.tamper = tamper
        self.lock = Lock()
        self.waiting: dict[Side, Queue] = {side: Queue() for side in Side}
        self.connections = 0

    def connect(self, side: Side) -> Wire:
        if side is Side.A:
            ways: dict[Side, Queue] = {each: Queue() for each in Side}
            self.waiting[Side.B].put(ways)
            self.connections += 1
        else:
            try:
                ways = self.waiting[Side.B].get(timeout=0.2)
            except Empty:
                raise ChannelError("nobody came") from None
        return Wire(side, ways, self.tamper)
