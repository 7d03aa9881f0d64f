"""Two ends of the channel over loopback TCP with certificates: both busy, gone, cut, revoked."""

import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from keyferry.channel import transport as transport_module
from keyferry.channel.frames import HEADER, Frame, Header
from keyferry.channel.transport import ChannelIdentity, Listener, connect
from keyferry.pki.authority import Authority
from qkd_core.errors import ChannelError, Silent
from qkd_core.types.authentication import MessageKind
from qkd_core.types.ids import BlockId, KmeId, Side

NAMES = {Side.A: "kme-a", Side.B: "kme-b"}
SOON_S = 10.0


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    authority = Authority.create(tmp_path_factory.mktemp("pki"), "test authority")
    folder = tmp_path_factory.mktemp("certs")
    made = {}
    for side, name in NAMES.items():
        own = authority.issue(
            folder, name, uri=f"urn:keyferry:kme:{name}", server=True, client=True
        )
        made[side] = ChannelIdentity(
            ca=authority.certificate,
            cert=own.cert,
            key=own.key,
            peer_kme=KmeId(NAMES[side.other]),
        )
    return made


@pytest.fixture
def ends(identities):
    """A's transport and B's, connected."""
    with (
        closing(Listener("127.0.0.1", 0, identities[Side.B])) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        accepted = pool.submit(listener.accept, SOON_S)
        at_a = connect("127.0.0.1", listener.port, identities[Side.A], SOON_S)
        at_b = accepted.result(SOON_S)
    yield at_a, at_b
    at_a.close()
    at_b.close()


def frame(body=b"", block=1):
    header = Header(MessageKind.PARITIES, 0, BlockId(block), BlockId(0), len(body))
    return Frame(header, body, None)


def test_both_ends_send_twenty_megabytes_at_the_same_time(ends):
    """Neither reads before it has sent all; one body is larger than any buffer on the way."""
    body = bytes(range(256)) * (20 << 12)

    def exchange(end):
        end.send(frame(body))
        return end.receive(SOON_S).body

    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(exchange, ends))
    assert got[0] == body
    assert got[1] == body


def test_what_is_taken_in_while_sending_is_bounded(ends, monkeypatch):
    """Two ends that both send more than may lie unread, and never read: both give up."""
    limit = 1 << 20
    monkeypatch.setattr(transport_module, "UNREAD_BYTES", limit)
    monkeypatch.setattr(transport_module, "UNACKNOWLEDGED_MS", 500)
    body = bytes(30 << 20)

    def stuck(end):
        with pytest.raises(ChannelError, match="the peer is silent"):
            end.send(frame(body))
        return end._tls.unread

    with ThreadPoolExecutor(2) as pool:
        unread = list(pool.map(stuck, ends))
    assert max(unread) >= limit  # it was needed
    assert max(unread) < limit + transport_module.PIECE_BYTES


def test_many_threads_send_and_every_frame_arrives_whole(ends):
    n_threads, n_frames = 8, 20
    sizes = [0, 1, 1000, 70_000, 300_000]

    def send(block):
        for number in range(n_frames):
            n = sizes[(block + number) % len(sizes)]
            ends[0].send(frame(bytes([block, number]) + bytes([block]) * n, block))

    with ThreadPoolExecutor(n_threads + 1) as pool:
        senders = [pool.submit(send, block) for block in range(1, n_threads + 1)]
        next_of = Counter()
        for _ in range(n_threads * n_frames):
            got = ends[1].receive(SOON_S)
            block, number = got.header.block_id, next_of[got.header.block_id]
            n = sizes[(block + number) % len(sizes)]
            assert got.body == bytes([block, number]) + bytes([block]) * n
            next_of[block] += 1
        for each in senders:
            each.result(SOON_S)


def test_one_thread_sends_while_another_waits_to_receive(ends):
    """What is waited for comes while this end sends without a pause."""
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(ends[0].receive, SOON_S)
        for _ in range(20):
            ends[0].send(frame(bytes(100_000)))
            if waiting.done():
                break
            ends[1].send(frame(b"now"))
            assert ends[1].receive(SOON_S).header.n_body == 100_000
        assert waiting.result(SOON_S).body == b"now"


@pytest.mark.parametrize("who", [0, 1])
def test_closing_wakes_the_thread_that_waits(ends, who):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ends[0].receive, 60.0)
        time.sleep(0.1)
        begun = time.monotonic()
        ends[who].close()
        with pytest.raises(ChannelError, match=r"closed|broke") as caught:
            waiting.result(SOON_S)
        assert time.monotonic() - begun < 2
        assert not isinstance(caught.value, Silent)


def test_silence_is_told_from_a_break_and_costs_nothing(ends):
    with pytest.raises(Silent):
        ends[0].receive(0.05)
    ends[1].send(frame(b"late"))
    assert ends[0].receive(SOON_S).body == b"late"


def half_of_a_frame(end, body=bytes(1000), until=HEADER.size + 10):
    data = memoryview(frame(body).header.encode() + body)
    end._push(end._tls.sealed(data[:until]))
    return data[until:]


@pytest.mark.parametrize("until", [1, HEADER.size, HEADER.size + 10])
def test_a_frame_that_has_begun_is_waited_for_whoever_reads_it(ends, until):
    """One whose own time is over in a moment reads for all; the connection must not break."""
    with ThreadPoolExecutor(1) as pool:
        rest = half_of_a_frame(ends[1], until=until)
        waiting = pool.submit(ends[0].receive, 0.1)
        time.sleep(0.4)
        ends[1]._push(ends[1]._tls.sealed(rest))
        assert waiting.result(SOON_S).body == bytes(1000)


def test_a_frame_that_does_not_go_on_is_a_break_not_silence(ends, monkeypatch):
    monkeypatch.setattr(transport_module, "WHOLE_S", 0.2)
    half_of_a_frame(ends[1])
    with pytest.raises(ChannelError, match="the peer is silent") as caught:
        ends[0].receive(0.1)
    assert not isinstance(caught.value, Silent)


def test_a_peer_that_closes_in_the_middle_of_a_frame_is_a_break(ends):
    half_of_a_frame(ends[1])
    ends[1].close()
    with pytest.raises(ChannelError, match=r"closed|broke"):
        ends[0].receive(SOON_S)
    with pytest.raises(ChannelError, match="broke while sending"):
        for _ in range(100):
            ends[0].send(frame(bytes(100_000)))


def test_a_tls_record_that_is_cut_or_altered_is_never_a_frame(ends):
    sealed = bytearray(ends[1]._tls.sealed(memoryview(frame(b"one").header.encode() + b"one")))
    sealed[-1] ^= 1
    ends[1]._push(bytes(sealed))
    with pytest.raises(ChannelError, match="broke while receiving"):
        ends[0].receive(SOON_S)


def test_a_tls_stream_that_ends_without_a_close_is_a_break(ends):
    sealed = ends[1]._tls.sealed(memoryview(frame(b"one").header.encode() + b"one"))
    ends[1]._push(sealed[:-3])
    ends[1]._socket.shutdown(socket.SHUT_WR)
    with pytest.raises(ChannelError, match="closed"):
        ends[0].receive(SOON_S)


def test_a_revoked_peer_is_sent_nothing_more(ends, monkeypatch):
    def revoked(_certificate):
        raise ChannelError("the peer's engine: the certificate is revoked")

    monkeypatch.setattr(ends[0]._identity, "check", revoked)
    with pytest.raises(ChannelError, match="revoked"):
        ends[0].send(frame(b"secret"))
    with pytest.raises(Silent):
        ends[1].receive(0.1)


def test_a_stranger_under_the_same_authority_is_not_met(identities):
    """B expects A, and its own certificate comes."""
    with (
        closing(Listener("127.0.0.1", 0, identities[Side.B])) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        accepted = pool.submit(listener.accept, SOON_S)
        stranger = identities[Side.B]
        with pytest.raises(ChannelError, match="names"):
            connect("127.0.0.1", listener.port, stranger, SOON_S)
        with pytest.raises(ChannelError):
            accepted.result(SOON_S)


def test_the_round_trip_is_that_of_the_loopback(ends):
    for _ in range(20):
        ends[0].send(frame(b"ping"))
        ends[1].send(ends[1].receive(SOON_S))
        ends[0].receive(SOON_S)
    assert 0 < ends[0].round_trip_s() < 0.1
    ends[0].close()
    with pytest.raises(ChannelError, match="round-trip"):
        ends[0].round_trip_s()
