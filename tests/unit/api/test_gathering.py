"""When a request is whole, however its bytes come; and what is not worth waiting for."""

import ssl
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_api.arguments import LARGEST_BODY_BYTES
from qkd_api.gathering import FREE_BYTES, Budget, ClientLeft, Gathering, Overfull

GET = b"GET /api/v1/keys/b/status HTTP/1.1\r\nHost: x\r\n\r\n"
POST = (
    b"POST /api/v1/keys/b/enc_keys HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n"
    + b'{"number": 2}'
)
CHUNKED = b"POST /x HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKS = CHUNKED + b'5;a=b\r\n{"num\r\n8\r\nber": 2}\r\n0\r\n\r\n'
TRAILED = CHUNKED + b"2\r\n{}\r\n0\r\nX: y\r\n\r\n"


class Pieces:
    """A TLS socket that has these pieces, and then nothing yet, or its end."""

    def __init__(self, *pieces: bytes, ends: bool = False) -> None:
        self.pieces, self.ends = list(pieces), ends

    def setblocking(self, flag: bool) -> None:
        assert flag is False

    def recv(self, n_bytes: int) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.ends:
            return b""
        raise ssl.SSLWantReadError


def gather(*pieces, begun=b""):
    """What is handed over after all the pieces, one readable event each; and the gathering."""
    gathering = Gathering(Budget(), 10.0)
    for piece in pieces:
        found = gathering.read(Pieces(piece), begun)
        begun = b""
        if found is not None:
            return found, gathering
    return None, gathering


@pytest.mark.parametrize("request_bytes", [GET, POST, CHUNKS, TRAILED])
def test_a_request_is_whole_with_its_last_byte_and_not_before(request_bytes):
    for cut in range(1, len(request_bytes)):
        found, gathering = gather(request_bytes[:cut])
        assert found is None
        assert gathering.due is not None
        assert gathering.read(Pieces(request_bytes[cut:]), b"") == request_bytes
        assert gathering.due is None


@given(st.data(), st.sampled_from([GET, POST, CHUNKS, TRAILED]))
def test_it_does_not_matter_how_the_bytes_are_cut(data, request_bytes):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(request_bytes) - 1), max_size=6)))
    bounds = [0, *cuts, len(request_bytes)]
    pieces = [request_bytes[a:b] for a, b in pairwise(bounds)]

    assert gather(*pieces)[0] == request_bytes


def test_what_is_whole_needs_no_further_read():
    sock = Pieces(POST, b"the next one")
    assert Gathering(Budget(), 10.0).read(sock, b"") == POST
    assert sock.pieces == [b"the next one"]


def test_what_was_read_ahead_counts():
    assert gather(POST[30:], begun=POST[:30])[0] == POST
    assert Gathering(Budget(), 10.0).read(Pieces(), GET) == GET


def test_what_comes_behind_a_request_stays_behind_it():
    assert gather(GET + GET + b"GET /")[0] == GET + GET + b"GET /"


def test_nothing_yet_is_waited_for_without_a_deadline_of_its_own():
    gathering = Gathering(Budget(), 10.0)
    assert gathering.read(Pieces(), b"") is None
    assert gathering.due is None


@pytest.mark.parametrize("sent", [[], [POST[:40]], [POST[:-1]]])
def test_a_client_that_leaves_within_a_request_is_not_served(sent):
    with pytest.raises(ClientLeft):
        Gathering(Budget(), 10.0).read(Pieces(*sent, ends=True), b"")


def head(*lines: bytes) -> bytes:
    return b"POST /x HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        head(b"Content-Length: -1"),
        head(b"Content-Length: 1e3"),
        head(b"Content-Length: 99999999999999999999"),
        head(b"Content-Length: %d" % (LARGEST_BODY_BYTES + 1)),
        head(b"Content-Length: 5", b"Content-Length: 6"),
        head(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        head(b"Transfer-Encoding: br"),
        head(b"Transfer-Encoding: gzip, chunked"),
        head(b"Content-Length : 5"),
        CHUNKED + b"zz\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"fffffffff\r\n",
        CHUNKED + b"f" * FREE_BYTES,
        b"\x00\x01\r\n\r\n",
        b"x" * (65 << 10),
    ],
)
def test_what_is_no_good_request_is_handed_over_at_once(request_bytes):
    assert gather(request_bytes)[0] == request_bytes


def test_a_body_in_chunks_without_end_is_handed_over_at_its_limit():
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    found, _ = gather(CHUNKED, *[chunk] * 70)
    assert found is not None
    assert len(found) <= LARGEST_BODY_BYTES + 2 * len(chunk)


def test_an_expectation_is_met_by_the_gathering():
    """The whole body is here before anybody could send a 100 Continue."""
    asked = head(b"Expect: 100-continue", b"Content-Length: 4")
    assert gather(asked, b"body")[0] == head(b"Content-Length: 4") + b"body"


def test_one_request_after_the_other_on_one_connection():
    gathering = Gathering(Budget(), 10.0)
    for request_bytes in (POST, CHUNKS, GET, TRAILED):
        assert gathering.read(Pieces(request_bytes), b"") == request_bytes


def test_large_requests_share_a_budget_and_give_it_back():
    budget = Budget(40_000)
    large = head(b"Content-Length: 30000") + b"x" * 29_999
    first, second, small = (Gathering(budget, 10.0) for _ in range(3))
    assert first.read(Pieces(large), b"") is None
    with pytest.raises(Overfull):
        for _ in range(2):
            second.read(Pieces(large), b"")
    second.let_go()
    assert small.read(Pieces(POST[:-1]), b"") is None
    first.let_go()
    assert second.read(Pieces(large), b"") is None
    assert second.read(Pieces(b"x"), b"") == large + b"x"
