"""Messages between a device server and its driver, over a unix stream socket.

A message is a length (4 bytes, big-endian), that many bytes of a JSON object, and the arrays that
its item ``arrays`` lists as [dtype, count], raw and little-endian. Everything is bounded before it
is read.
"""

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkDown

VERSION = 2
HEADER_BYTES_MAX = 16_384
ITEMS_MAX = 1 << 25  # of one array: 256 MiB of times
ARRAYS_MAX = 2
DTYPES = ("<i8", "|u1")
START_MAX_S = 3600.0  # the longest wait for the other end to arm
HALF_MESSAGE_S = 10.0  # a message that has begun must end within this time
Value = TypeVar("Value", str, int, float)


class Malformed(LinkDown):
    """The other end does not speak this protocol; the connection is closed."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request or answer."""

    header: Mapping[str, Any]
    arrays: tuple[npt.NDArray[Any], ...] = ()

    def get(self, name: str, kind: type[Value]) -> Value:
        """Item ``name`` of the header. Raises Malformed unless it is there and of this type."""
        value = self.header.get(name)
        if type(value) is not kind:
            raise Malformed(f"item {name!r} must be of type {kind.__name__}")
        return value

    def array(self, place: int, dtype: type[Any]) -> npt.NDArray[Any]:
        """Array number ``place``. Raises Malformed unless it is there with this dtype."""
        if place >= len(self.arrays) or self.arrays[place].dtype != dtype:
            raise Malformed(f"array {place} must be there, with dtype {np.dtype(dtype)}")
        return self.arrays[place]


def send(sock: socket.socket, message: Message) -> None:
    """Write one message. Raises OSError; ValueError for what the reader would refuse."""
    shapes = [[array.dtype.str, array.size] for array in message.arrays]
    _check_shapes(shapes, ITEMS_MAX)
    header = json.dumps({**message.header, "arrays": shapes}).encode()
    if len(header) > HEADER_BYTES_MAX:
        raise ValueError(f"header of {len(header)} bytes, {HEADER_BYTES_MAX} are allowed")
    sock.settimeout(HALF_MESSAGE_S)
    sock.sendall(len(header).to_bytes(4, "big") + header)
    for array in message.arrays:
        sock.sendall(np.ascontiguousarray(array).data)


def receive(sock: socket.socket, *, begin_s: float | None, items_max: int = ITEMS_MAX) -> Message:
    """Read one message; wait for its first byte at most ``begin_s`` seconds (None: for ever).

    Raises EOFError when the other end closed between messages, TimeoutError, OSError, Malformed.
    """
    sock.settimeout(begin_s)
    first = sock.recv(1)
    if not first:
        raise EOFError("the connection was closed")
    deadline = monotonic() + HALF_MESSAGE_S
    n_bytes = int.from_bytes(first + _exactly(sock, 3, deadline), "big")
    if n_bytes > HEADER_BYTES_MAX:
        raise Malformed(f"header of {n_bytes} bytes, {HEADER_BYTES_MAX} are allowed")
    header = _parsed(bytes(_exactly(sock, n_bytes, deadline)))
    shapes = header.pop("arrays", [])
    try:
        _check_shapes(shapes, items_max)
    except ValueError as error:
        raise Malformed(str(error)) from error
    arrays = tuple(_array(sock, dtype, count, deadline) for dtype, count in shapes)
    return Message(header, arrays)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Malformed("the header is not JSON") from error
    if not isinstance(header, dict):
        raise Malformed("the header is not a JSON object")
    return header


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_shapes(shapes: Any, items_max: int) -> None:
    if not isinstance(shapes, Sequence) or len(shapes) > ARRAYS_MAX:
        raise ValueError(f"arrays: a list of at most {ARRAYS_MAX} entries")
    for shape in shapes:
        match shape:
            case [str(dtype), int(count)] if dtype in DTYPES and 0 <= count <= items_max:
                continue
        raise ValueError(f"arrays: [dtype, count], dtype in {DTYPES}, count at most {items_max}")


def _array(sock: socket.socket, dtype: str, count: int, deadline: float) -> npt.NDArray[Any]:
    return np.frombuffer(_exactly(sock, count * np.dtype(dtype).itemsize, deadline), dtype)


def _exactly(sock: socket.socket, n_bytes: int, deadline: float) -> bytearray:
    data = bytearray(n_bytes)
    view, n = memoryview(data), 0
    while n < n_bytes:
        sock.settimeout(max(1e-3, deadline - monotonic()))
        try:
            got = sock.recv_into(view[n:])
        except TimeoutError as error:
            raise Malformed(f"a message stopped for {HALF_MESSAGE_S:g} s") from error
        if not got:
            raise Malformed("a message was cut off")
        n += got
    return data
