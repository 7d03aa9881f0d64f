"""Whatever arrives on the wire, reading it ends in a frame or a ChannelError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.channel.frames import HEADER, TRAILER_BYTES, Header, Trailer
from keyferry.engine import plan_message
from qkd_core.errors import ChannelError
from qkd_core.types.authentication import Lane, MessageKind, PadName
from qkd_core.types.ids import BlockId, Side

NUMBERS = st.integers(0, 2**63 - 1)
NAMES = st.builds(
    PadName, st.just(Side.A), st.sampled_from(Lane), NUMBERS, st.integers(0, 2**32 - 1)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=20,
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


@given(st.binary(min_size=TRAILER_BYTES, max_size=TRAILER_BYTES))
def test_a_random_trailer_never_breaks_the_reader(data):
    try:
        Trailer.decode(data, Side.B)
    except ChannelError:
        pass


@given(st.binary(max_size=200))
def test_a_random_plan_is_refused(data):
    with pytest.raises(ChannelError, match="malformed plan"):
        plan_message.decode(data)


@given(JSON)
def test_a_plan_of_the_wrong_shape_is_refused(told):
    import json

    with pytest.raises(ChannelError, match="malformed plan"):
        plan_message.decode(json.dumps(told).encode())
