"""The lines on which the sites talk: what passes, how late, and what breaks."""

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side
from qkd_sim_link.scenarios.faults import told_fault
from qkd_sim_link.serving import lines
from qkd_sim_link.serving.fault_board import FaultBoard
from qkd_sim_link.serving.lines import Line, address, carried, late_s

HOST = "127.0.0.1"
PATIENCE_S = 10.0


def board(*faults: tuple[str, dict]) -> FaultBoard:
    made = FaultBoard((), time.monotonic)
    for kind, values in faults:
        made.begin(told_fault(kind, values))
    return made


@contextmanager
def joined(told: FaultBoard) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Site A's end and site B's end of one connection."""
    with (
        socket.create_server((HOST, 0)) as server,
        socket.create_server((HOST, 0)) as placeholder,
    ):
        server.settimeout(PATIENCE_S)
        here = placeholder.getsockname()[:2]
        placeholder.close()
        with (
            carried([Line(Side.A, here, server.getsockname()[:2])], told),
            socket.create_connection(here, PATIENCE_S) as near,
        ):
            far, _ = server.accept()
            with far:
                far.settimeout(PATIENCE_S)
                yield near, far


def exactly(sock: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        more = sock.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def trip_s(sender: socket.socket, receiver: socket.socket) -> float:
    begun = time.monotonic()
    sender.sendall(b"ping")
    assert exactly(receiver, 4) == b"ping"
    return time.monotonic() - begun


def test_without_a_fault_all_bytes_pass_in_order_both_ways():
    sent = random.Random(1).randbytes(3 << 20)
    with joined(board()) as (near, far):
        for sender, receiver in ((near, far), (far, near)):
            sending = threading.Thread(target=sender.sendall, args=(sent,))
            sending.start()
            assert exactly(receiver, len(sent)) == sent
            sending.join()
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
        far.sendall(b"last")
        assert exactly(near, 4) == b"last"


def test_what_was_sent_before_both_ends_closed_still_arrives():
    sent = random.Random(2).randbytes(4 << 20)
    with joined(board()) as (near, far):
        far.shutdown(socket.SHUT_WR)

        def send_and_close() -> None:
            near.sendall(sent)
            near.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send_and_close)
        sending.start()
        first = exactly(far, 1)
        time.sleep(0.2)  # the relay has what does not fit into the sockets
        assert first + exactly(far, len(sent) - 1) == sent
        assert far.recv(1) == b""
        sending.join()


def test_a_delay_is_that_of_each_direction_and_ends_with_its_fault():
    told = board(("message-delay", {"delay_ms": 150.0}))
    with joined(told) as (near, far):
        assert 0.15 <= trip_s(near, far) < 1.0
        assert 0.15 <= trip_s(far, near) < 1.0
        told.clear(None)
        assert trip_s(near, far) < 0.15


def test_a_partition_holds_what_is_sent_and_lets_it_pass_afterwards():
    told = board(("partition", {"direction": "a-to-b"}))
    with joined(told) as (near, far):
        near.sendall(b"held")
        assert trip_s(far, near) < 1.0  # the other direction
        far.settimeout(0.3)
        with pytest.raises(TimeoutError):
            far.recv(1)
        told.clear("partition")
        far.settimeout(PATIENCE_S)
        assert exactly(far, 4) == b"held"


def test_a_connection_breaks_when_nothing_arrives_for_too_long(monkeypatch):
    monkeypatch.setattr(lines, "GIVE_UP_S", 0.3)
    for fault in (("partition", {}), ("message-loss", {"probability": 1.0})):
        with joined(board(fault)) as (near, far):
            near.sendall(b"lost")
            near.settimeout(PATIENCE_S)
            with pytest.raises((ConnectionError, EOFError)):
                exactly(near, 1)
            with pytest.raises((ConnectionError, EOFError)):
                exactly(far, 4)


def test_a_lost_piece_is_late_by_the_time_outs_of_tcp():
    """Of 1000 pieces at 1/2: 500 not late, within 5 standard deviations (false alarm 6e-7)."""
    random.seed(3)
    late = [late_s(0.5) for _ in range(1000)]

    assert abs(late.count(0.0) - 500) < 5 * (1000 / 4) ** 0.5
    assert {0.2, 0.6, 1.4} <= {round(each, 6) for each in late}
    assert late_s(0.0) == 0.0
    assert late_s(1.0) == float("inf")


def test_nobody_at_the_other_end_looks_like_nobody_here():
    with socket.create_server((HOST, 0)) as gone, socket.create_server((HOST, 0)) as other:
        here, there = gone.getsockname()[:2], other.getsockname()[:2]
    with (
        carried([Line(Side.A, here, there)], board()),
        socket.create_connection(here, PATIENCE_S) as near,
        pytest.raises((ConnectionError, EOFError)),
    ):
        exactly(near, 1)


def test_a_port_in_use_and_a_wrong_address_are_one_line():
    with (
        socket.create_server((HOST, 0)) as taken,
        pytest.raises(ConfigError, match="line: cannot listen"),
        carried([Line(Side.A, taken.getsockname()[:2], (HOST, 1))], board()),
    ):
        pass
    assert address("localhost:20001") == ("localhost", 20001)
    for wrong in ("localhost", "localhost:", ":1", "localhost:0", "localhost:65536", "x:-1"):
        with pytest.raises(ConfigError, match="host:port"):
            address(wrong)
