"""Whatever arrives on the wire, reading it ends in a frame or a ChannelError."""

import sys
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.channel.frames import HEADER, NUMBER_LIMIT, TRAILER_BYTES, Header, Trailer
from keyferry.channel.transport import Transport
from qkd_core.errors import ChannelError
from qkd_core.types.authentication import Lane, MessageKind, PadName
from qkd_core.types.ids import BlockId, Side

sys.path.insert(0, str(Path(__file__).parent))
from altered_bodies import altered, refused

sys.path.pop(0)

NUMBERS = st.integers(0, NUMBER_LIMIT - 1)
NAMES = st.builds(
    PadName, st.just(Side.A), st.sampled_from(Lane), NUMBERS, st.integers(0, 2**32 - 1)
)


@given(
    st.sampled_from(MessageKind), st.sampled_from([0, 1, 3]), NUMBERS, NUMBERS, st.integers(0, 99)
)
def test_a_header_comes_back_as_it_was(kind, flags, block, settled, n_body):
    header = Header(kind, flags, BlockId(block), BlockId(settled), n_body)
    assert Header.decode(header.encode()) == header


@given(NAMES, st.none() | NAMES, st.binary(min_size=16, max_size=16))
def test_a_trailer_comes_back_as_it_was(name, verified, tag):
    if verified is not None:
        verified = PadName(Side.B, verified.lane, verified.segment, verified.index)
    trailer = Trailer(name, verified, tag)
    assert Trailer.decode(trailer.encode(), Side.A) == trailer


@given(st.binary(min_size=HEADER.size, max_size=HEADER.size))
def test_a_random_header_is_refused(data):
    with pytest.raises(ChannelError):
        Header.decode(data)


@given(st.binary(min_size=HEADER.size - 4, max_size=HEADER.size - 4))
def test_a_header_with_the_right_magic_never_breaks_the_reader(data):
    try:
        Header.decode(b"KFE1" + data)
    except ChannelError:
        pass


def test_a_number_that_the_store_cannot_hold_is_refused():
    name = PadName(Side.A, Lane.POOL, BlockId(NUMBER_LIMIT), 0)
    with pytest.raises(ChannelError, match="segment number"):
        Trailer.decode(Trailer(name, None, bytes(16)).encode(), Side.A)
    with pytest.raises(ChannelError, match="block number"):
        Header.decode(Header(MessageKind.PLAN, 1, BlockId(NUMBER_LIMIT), BlockId(0), 0).encode())


@given(st.binary(min_size=TRAILER_BYTES, max_size=TRAILER_BYTES))
def test_a_random_trailer_never_breaks_the_reader(data):
    try:
        Trailer.decode(data, Side.B)
    except ChannelError:
        pass


class Stream:
    """The bytes of a connection that then ends, in place of TLS."""

    certificate: ClassVar[dict[str, object]] = {}

    def __init__(self, data: bytes) -> None:
        self.left, self.ended = data, False

    def opened_into(self, view: memoryview) -> int:
        part, self.left = self.left[: len(view)], self.left[len(view) :]
        view[: len(part)] = part
        self.ended = not part
        return len(part)


def a_stream() -> bytes:
    """One frame without a tag and one with."""
    name = PadName(Side.A, Lane.POOL, BlockId(3), 7)
    trailer = Trailer(name, None, bytes(range(16)))
    parts = []
    for kind, flags in ((MessageKind.OUTCOMES, 0), (MessageKind.ACCEPTANCE, 3)):
        parts += [Header(kind, flags, BlockId(5), BlockId(0), 9).encode(), b"nine byte"]
    return b"".join([*parts, trailer.encode()])


@settings(deadline=2000)
@given(altered(a_stream()))
def test_an_altered_stream_of_frames_gives_whole_frames_and_then_a_channel_error(data):
    """It never waits for the socket, which is none: every byte that there is has come."""
    transport = Transport(None, Stream(data), Side.A, None)
    read = b""
    for _ in range(3 + len(data) // HEADER.size):
        found = []
        if refused(lambda found=found: found.append(transport.receive(1.0)), ChannelError):
            break
        [frame] = found
        trailer = b"" if frame.trailer is None else frame.trailer.encode()
        read += frame.header.encode() + frame.body + trailer
    else:
        raise AssertionError("frames without end")
    assert data.startswith(read)
