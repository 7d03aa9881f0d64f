import json
import socket
from collections.abc import Iterator
from threading import Thread

import numpy as np
import pytest

from qkd_sim_link import wire
from qkd_sim_link.wire import Malformed, Message, receive, send


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def framed(header: bytes) -> bytes:
    return len(header).to_bytes(4, "big") + header


def test_a_message_arrives_as_it_was_sent(ends):
    times, fired = np.arange(-2, 200_000), np.arange(5, dtype=np.uint8)
    sender = Thread(target=send, args=(ends[0], Message({"n": 1}, (times, fired))))
    sender.start()

    message = receive(ends[1], begin_s=5)
    sender.join()

    assert message.get("n", int) == 1
    np.testing.assert_array_equal(message.array(0, np.int64), times)
    np.testing.assert_array_equal(message.array(1, np.uint8), fired)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        framed(b"{"),
        framed(b"[]"),
        framed(b"\xff\xfe"),
        framed(b'{"n": NaN}'),
        framed(b"[" * 10_000),
        framed(json.dumps({"arrays": [["<f8", 1]]}).encode()),
        framed(json.dumps({"arrays": [["<i8", -1]]}).encode()),
        framed(json.dumps({"arrays": [["<i8", 1 << 40]]}).encode()),
        framed(json.dumps({"arrays": [["<i8", 1.0]]}).encode()),
        framed(json.dumps({"arrays": [["|u1", 1]] * 3}).encode()),
        framed(json.dumps({"arrays": 7}).encode()),
    ],
)
def test_what_is_not_the_protocol_is_refused_before_anything_large_is_read(ends, data):
    ends[0].sendall(data)

    with pytest.raises(Malformed):
        receive(ends[1], begin_s=5)


def test_a_message_that_is_cut_off_is_malformed(ends):
    ends[0].sendall(framed(b'{"arrays": [["|u1", 3]]}') + b"\x00")
    ends[0].shutdown(socket.SHUT_WR)

    with pytest.raises(Malformed, match="cut off"):
        receive(ends[1], begin_s=5)


def test_a_message_that_stops_half_way_is_given_up(ends, monkeypatch):
    monkeypatch.setattr(wire, "HALF_MESSAGE_S", 0.05)
    ends[0].sendall(b"\x00\x00")

    with pytest.raises(Malformed, match="stopped"):
        receive(ends[1], begin_s=5)


def test_a_connection_closed_between_messages_is_its_end(ends):
    ends[0].shutdown(socket.SHUT_WR)

    with pytest.raises(EOFError):
        receive(ends[1], begin_s=5)


def test_silence_is_a_timeout(ends):
    with pytest.raises(TimeoutError):
        receive(ends[1], begin_s=0.01)


def test_items_of_the_wrong_type_are_refused():
    message = Message({"n": True}, (np.zeros(1, np.uint8),))

    with pytest.raises(Malformed, match="'n' must be of type int"):
        message.get("n", int)
    with pytest.raises(Malformed, match="'m' must be"):
        message.get("m", str)
    with pytest.raises(Malformed, match="dtype int64"):
        message.array(0, np.int64)
    with pytest.raises(Malformed, match="array 1"):
        message.array(1, np.uint8)


def test_what_the_reader_would_refuse_is_not_sent(ends):
    with pytest.raises(ValueError, match="dtype in"):
        send(ends[0], Message({}, (np.zeros(1),)))
    with pytest.raises(ValueError, match="header of"):
        send(ends[0], Message({"text": "x" * wire.HEADER_BYTES_MAX}))
