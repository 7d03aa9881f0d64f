"""Frames over TCP with TLS 1.3 and mutual certificates.

TLS keeps nuisance out; it is not part of the proof (`architecture.md`, section 7).
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from struct import Struct
from threading import Lock
from typing import Any

from keyferry.channel.frames import HEADER, TAGGED, TRAILER_BYTES, Frame, Header, Trailer
from keyferry.channel.in_memory_tls import PIECE_BYTES, InMemory
from qkd_api.trust import LiveContext, TlsFiles, Trust
from qkd_core.errors import ChannelError, ConfigError, NotAuthorised, Silent
from qkd_core.types.ids import KmeId, Side

KEEPALIVE_IDLE_S = 5
UNACKNOWLEDGED_MS = 15_000
SLICE_S = 0.02
TCP_INFO_BYTES, ROUND_TRIP_AT, ROUND_TRIP_US = 104, 68, Struct("=I")  # tcpi_rtt: linux/tcp.h
HANDSHAKE_S = 5.0  # for each step of it; somebody else may be waiting
UNREAD_BYTES = 256 << 20  # taken in while sending and read by nobody: four of the longest frames
WHOLE_S = 30.0  # in which a frame is there that has begun, however little time its reader has left


class ChannelIdentity:
    """Who this end is, and whom it talks to; files that change are read again."""

    def __init__(
        self, *, ca: Path, cert: Path, key: Path, peer_kme: KmeId, crl: Path | None = None
    ) -> None:
        self.peer_kme = peer_kme
        self.trust = Trust(TlsFiles(ca=ca, cert=cert, key=key, crl=crl))

    def context(self, *, server: bool) -> ssl.SSLContext:
        """TLS 1.3 only, a certificate of our own authority required; no other one is trusted.

        Raises ConfigError on unusable files.
        """
        files = self.trust.files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the KME's URI name is checked instead, see require_peer
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.ca)
            context.load_cert_chain(files.cert, files.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{files.cert}: not usable as a certificate: {error}") from error
        self.trust.require_unrevoked(context)
        return context

    def check(self, certificate: dict[str, Any]) -> None:
        """Raises ChannelError once the peer's certificate is revoked."""
        try:
            self.trust.check(certificate)
        except NotAuthorised as error:
            raise ChannelError(f"the peer's engine: {error}") from error


class Transport:
    """One connection to the peer's engine; one thread receives, any may send.

    TLS runs in memory and the socket beside it: a TLS connection is not for two threads at once,
    and a receiver that waits must not keep the others from sending.
    """

    def __init__(
        self, plain: socket.socket, tls: InMemory, sender: Side, identity: ChannelIdentity
    ) -> None:
        """``sender``: the side at the other end. The handshake is over."""
        self._socket, self._tls = plain, tls
        self._sender = sender
        self._identity = identity
        self._sending, self._absorbing = Lock(), Lock()

    def send(self, frame: Frame) -> None:
        """Raises ChannelError."""
        trailer = b"" if frame.trailer is None else frame.trailer.encode()
        data = memoryview(b"".join((frame.header.encode(), frame.body, trailer)))
        self._identity.check(self._tls.certificate)
        with self._sending, channel_errors("sending"):
            for start in range(0, len(data), PIECE_BYTES):
                self._push(self._tls.sealed(data[start : start + PIECE_BYTES]))

    def receive(self, timeout_s: float) -> Frame:
        """The next whole frame. Raises Silent when none has begun in time, ChannelError."""
        with channel_errors("receiving"):
            whole_s = max(timeout_s, WHOLE_S)
            header = Header.decode(bytes(self._exactly(HEADER.size, whole_s, begins_s=timeout_s)))
            body = bytes(self._exactly(header.n_body, whole_s))
            trailer = None
            if header.flags & TAGGED:
                trailer = Trailer.decode(bytes(self._exactly(TRAILER_BYTES, whole_s)), self._sender)
        return Frame(header, body, trailer)

    def round_trip_s(self) -> float:
        """As the system has measured it lately, in seconds. Raises ChannelError."""
        with channel_errors("asking for its round-trip time"):
            told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        return float(ROUND_TRIP_US.unpack_from(told, ROUND_TRIP_AT)[0]) / 1e6

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes those who wait at it
        self._socket.close()

    def _push(self, data: bytes) -> None:
        """Give ``data`` to the network; while it takes none, take in what the peer sends.

        Otherwise two ends that both send much would wait for each other.
        """
        view = memoryview(data)
        end = time.monotonic() + UNACKNOWLEDGED_MS / 1000
        while view:
            try:
                view = view[self._socket.send(view) :]
            except (BlockingIOError, InterruptedError):
                if time.monotonic() > end:
                    raise TimeoutError from None
                room = self._tls.unread < UNREAD_BYTES  # else the peer has to wait for us
                ready, _, _ = select([self._socket] if room else [], [self._socket], [], SLICE_S)
                if ready:
                    self._absorb()

    def _exactly(self, n: int, timeout_s: float, *, begins_s: float | None = None) -> bytearray:
        """The next ``n`` bytes. ``begins_s``: for the first of them, when none has to come."""
        data = bytearray(n)
        view = memoryview(data)
        begun = begins_s is None
        end = time.monotonic() + (timeout_s if begins_s is None else begins_s)
        while view:
            got = self._tls.opened_into(view)
            if got:
                if not begun:
                    begun, end = True, time.monotonic() + timeout_s
                view = view[got:]
            elif self._tls.ended:
                raise ChannelError("the peer closed the connection")
            else:
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError if begun else Silent("the peer is silent")
                # In slices: a thread that sends may have taken in what is waited for.
                if select([self._socket], [], [], min(left, SLICE_S))[0]:
                    self._absorb()
        return data

    def _absorb(self) -> None:
        """Take in what the socket has, if it has any."""
        with self._absorbing:
            try:
                self._tls.take_in(self._socket.recv(PIECE_BYTES))
            except (BlockingIOError, InterruptedError):
                return


@contextmanager
def channel_errors(doing: str) -> Iterator[None]:
    """Every failure of the socket is a ChannelError."""
    try:
        yield
    except TimeoutError as error:
        raise ChannelError(f"the peer is silent ({doing})") from error
    except (OSError, ValueError) as error:  # ValueError: another thread has closed the socket
        raise ChannelError(f"the connection broke while {doing}: {error}") from error


class Listener:
    """Site B's end: waits for site A's engine."""

    def __init__(self, host: str, port: int, identity: ChannelIdentity) -> None:
        """Raises ConfigError when the port is taken."""
        self._identity = identity
        self._context = LiveContext(identity.trust, lambda: identity.context(server=True))
        try:
            self._socket = socket.create_server((host, port), backlog=4)
        except OSError as error:
            raise ConfigError(f"link.channel = {host}:{port}: cannot listen: {error}") from error

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def accept(self, timeout_s: float) -> Transport:
        """Raises ChannelError when nobody of the right name comes in time."""
        with channel_errors("waiting for the peer's engine"):
            self._socket.settimeout(timeout_s)
            plain, _ = self._socket.accept()
            with closed_on_error(plain):
                tls = InMemory(self._context.current(), server=True)
                met(plain, tls, self._identity)
        return Transport(plain, tls, Side.A, self._identity)

    def close(self) -> None:
        self._socket.close()


def connect(host: str, port: int, identity: ChannelIdentity, timeout_s: float) -> Transport:
    """Site A's end. Raises ChannelError while the peer's engine is away."""
    context = identity.context(server=False)
    with channel_errors("connecting"):
        plain = socket.create_connection((host, port), timeout_s)
        with closed_on_error(plain):
            tls = InMemory(context, server=False)
            met(plain, tls, identity)
    return Transport(plain, tls, Side.B, identity)


def met(plain: socket.socket, tls: InMemory, identity: ChannelIdentity) -> None:
    """The handshake, and who it is. The socket does not block afterwards."""
    tuned(plain, HANDSHAKE_S)
    tls.shake_hands(plain)
    require_peer(tls.certificate, identity.peer_kme)
    plain.setblocking(False)


@contextmanager
def closed_on_error(plain: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        plain.close()
        raise


def tuned(plain: socket.socket, timeout_s: float) -> None:
    """Small messages at once, and a vanished peer noticed within seconds."""
    plain.settimeout(timeout_s)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_IDLE_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)


def require_peer(certificate: dict[str, Any], peer_kme: KmeId) -> None:
    """Raises ChannelError unless the certificate names the expected KME as its URI."""
    wanted = f"urn:keyferry:kme:{peer_kme}"
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if names != [wanted]:
        raise ChannelError(f"the peer's certificate names {names}, not {wanted}")
