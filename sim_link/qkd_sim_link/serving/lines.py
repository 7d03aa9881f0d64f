"""The lines on which the sites talk: TCP connections that this process carries, and can disturb.

*Decision: the link's process carries them.* A fault of the network below the sites needs the
rights of an administrator (a packet filter, netem); a relay needs none, sees TLS and nothing
inside it, and one process and one socket then rule all faults of a link. Without a fault it costs
a message about 0.1 ms. An engine measures the round-trip time of its own connection, which ends
here: it does not see a delay that it is told to live with.

TCP hides the loss of a packet: it sends it again after a time-out, which doubles each time (RFC
6298, section 5.5; Linux begins with 200 ms). So a lost piece is a late one, and all behind it wait.
"""

import asyncio
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from threading import Thread
from time import monotonic

from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side
from qkd_sim_link.serving.fault_board import FaultBoard

log = logging.getLogger(__name__)
PIECE_BYTES = 1 << 16
PIECES_MAX = 256  # under way in a direction: 16 MiB; then the sender has to wait
AGAIN_S = 0.2  # until a lost piece is sent again for the first time
GIVE_UP_S = 15.0  # after so long without an acknowledgement the engines' connections break
LOOK_S = 0.02  # how soon the end of a partition is seen
STOP_S = 5.0
PORT_MAX = 65_535

Address = tuple[str, int]
Pieces = asyncio.Queue[tuple[float, bytes]]  # when each arrives; an empty one is the end


@dataclass(frozen=True, slots=True)
class Line:
    """Connections that site ``opened_by`` makes to ``listen`` are carried to ``to``."""

    opened_by: Side
    listen: Address
    to: Address


def address(text: str) -> Address:
    """``host:port``. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= PORT_MAX:
        raise ConfigError(f"line: {text!r}: host:port, the port from 1 to {PORT_MAX}")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What the faults of this moment do to what is sent from one site."""

    cut: bool
    delay_s: float
    lost: float

    @staticmethod
    def of(board: FaultBoard, sender: Side) -> "Disturbance":
        cut, delay_s, arrives = False, 0.0, 1.0
        for fault in board.acting():
            if fault.kind == "partition":
                cut |= fault.values["direction"] in ("both", f"{sender}-to-{sender.other}")
            elif fault.kind == "message-delay":
                delay_s += 1e-3 * fault.value("delay_ms")
            elif fault.kind == "message-loss":
                arrives *= 1 - fault.value("probability")
        return Disturbance(cut, delay_s, 1 - arrives)


QUIET = Disturbance(cut=False, delay_s=0.0, lost=0.0)


@contextmanager
def carried(lines: Sequence[Line], board: FaultBoard) -> Iterator[None]:
    """Carry ``lines`` in a thread of their own. Raises ConfigError for a port in use."""
    loop = asyncio.new_event_loop()
    try:
        listening = [loop.run_until_complete(_listening(line, board)) for line in lines]
    except OSError as error:
        loop.close()
        raise ConfigError(f"line: cannot listen: {error.strerror or error}") from error
    thread = Thread(target=loop.run_forever, name="lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        for server in listening:
            loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(_ended(), loop).result(STOP_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_S)
        loop.close()


async def _ended() -> None:
    """Break what is still open, and wait for it."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _listening(line: Line, board: FaultBoard) -> asyncio.Server:
    async def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            try:
                far_reader, far_writer = await asyncio.open_connection(*line.to)
            except OSError:
                writer.transport.abort()  # as if nobody listened here
                raise
            there = _carry(reader, far_writer, board, line.opened_by)
            back = _carry(far_reader, writer, board, line.opened_by.other)
            try:
                await asyncio.gather(there, back)
            except BaseException:
                writer.transport.abort()
                far_writer.transport.abort()
                raise
            writer.close()  # once all is sent
            far_writer.close()

    return await asyncio.start_server(opened, *line.listen)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, board: FaultBoard, sender: Side
) -> None:
    """Bring one direction of a connection over, until it ends or breaks (OSError).

    Without a fault a piece goes on at once; behind one that is late all others are.
    """
    kept: Pieces = asyncio.Queue(PIECES_MAX)
    late: asyncio.Task[None] | None = None
    try:
        while True:
            data = await reader.read(PIECE_BYTES)
            now = Disturbance.of(board, sender)
            if late is not None and late.done():
                late.result()  # nothing passes a piece that could not be delivered
                late = None
            if late is None and now == QUIET:
                await _deliver(data, writer)
            else:
                await kept.put((monotonic() + now.delay_s + late_s(now.lost), data))
                if late is None:
                    late = asyncio.create_task(_deliver_late(kept, writer, board, sender))
                    late.add_done_callback(lambda ended: _pass_on(ended, reader))
            if not data:
                if late is not None:
                    await late
                return
    finally:
        if late is not None:
            late.cancel()


def _pass_on(ended: "asyncio.Task[None]", reader: asyncio.StreamReader) -> None:
    """Whoever waits at ``reader`` learns that what was read before could not be delivered."""
    if not ended.cancelled() and (error := ended.exception()) is not None:
        reader.set_exception(ConnectionError(str(error)))


async def _deliver_late(
    kept: Pieces, writer: asyncio.StreamWriter, board: FaultBoard, sender: Side
) -> None:
    while not kept.empty():
        due, data = kept.get_nowait()
        await _arrived(due, board, sender)
        await _deliver(data, writer)


async def _deliver(data: bytes, writer: asyncio.StreamWriter) -> None:
    if not data:
        writer.write_eof()
        return
    writer.write(data)
    await writer.drain()


async def _arrived(due: float, board: FaultBoard, sender: Side) -> None:
    """Wait until a piece is there. Raises ConnectionError when TCP would not wait so long."""
    while (wait_s := due - monotonic()) > 0:
        await asyncio.sleep(min(wait_s, GIVE_UP_S))
        if due == inf:
            raise ConnectionError("a piece was lost too often")
    give_up = monotonic() + GIVE_UP_S
    while Disturbance.of(board, sender).cut:
        if monotonic() > give_up:
            raise ConnectionError("nothing arrives")
        await asyncio.sleep(LOOK_S)


def late_s(lost: float) -> float:
    """How late a piece is that is lost with this probability each time it is sent.

    Infinity where it would be later than `GIVE_UP_S`.
    """
    late, again_s = 0.0, AGAIN_S
    while random.random() < lost:  # noqa: S311 - a simulated network
        late += again_s
        again_s *= 2
        if late > GIVE_UP_S:
            return inf
    return late
