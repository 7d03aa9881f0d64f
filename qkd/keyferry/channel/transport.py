"""Frames over TCP with TLS 1.3 and mutual certificates.

TLS keeps nuisance out; it is not part of the proof (`architecture.md`, section 7).
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keyferry.channel.frames import HEADER, TAGGED, TRAILER_BYTES, Frame, Header, Trailer
from qkd_api.trust import LiveContext, TlsFiles, Trust
from qkd_core.errors import ChannelError, ConfigError, NotAuthorised
from qkd_core.types.ids import KmeId, Side

KEEPALIVE_IDLE_S = 5
UNACKNOWLEDGED_MS = 15_000
HANDSHAKE_S = 5.0  # for each step of it; somebody else may be waiting


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

    def check(self, connection: ssl.SSLSocket) -> None:
        """Raises ChannelError once the peer's certificate is revoked."""
        try:
            self.trust.check(connection.getpeercert() or {})
        except NotAuthorised as error:
            raise ChannelError(f"the peer's engine: {error}") from error


class Transport:
    """One connection to the peer's engine. Not thread-safe: an engine talks to one peer in turn."""

    def __init__(self, connection: ssl.SSLSocket, sender: Side, identity: ChannelIdentity) -> None:
        """``sender``: the side at the other end."""
        self._connection = connection
        self._sender = sender
        self._identity = identity

    def send(self, frame: Frame) -> None:
        """Raises ChannelError."""
        parts = [frame.header.encode(), frame.body]
        if frame.trailer is not None:
            parts.append(frame.trailer.encode())
        self._identity.check(self._connection)
        with channel_errors("sending"):
            self._connection.sendall(b"".join(parts))

    def receive(self, timeout_s: float) -> Frame:
        """The next whole frame. Raises ChannelError when it does not come in time."""
        with channel_errors("receiving"):
            self._connection.settimeout(timeout_s)
            header = Header.decode(self._exactly(HEADER.size))
            body = self._exactly(header.n_body)
            trailer = None
            if header.flags & TAGGED:
                trailer = Trailer.decode(self._exactly(TRAILER_BYTES), self._sender)
        return Frame(header, body, trailer)

    def close(self) -> None:
        self._connection.close()

    def _exactly(self, n: int) -> bytes:
        data = bytearray(n)
        view = memoryview(data)
        while view:
            got = self._connection.recv_into(view)
            if not got:
                raise ChannelError("the peer closed the connection")
            view = view[got:]
        return bytes(data)


@contextmanager
def channel_errors(doing: str) -> Iterator[None]:
    """Every failure of the socket is a ChannelError."""
    try:
        yield
    except TimeoutError as error:
        raise ChannelError(f"the peer is silent ({doing})") from error
    except OSError as error:
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
                tuned(plain, HANDSHAKE_S)
                connection = self._context.current().wrap_socket(plain, server_side=True)
                require_peer(connection, self._identity.peer_kme)
        return Transport(connection, Side.A, self._identity)

    def close(self) -> None:
        self._socket.close()


def connect(host: str, port: int, identity: ChannelIdentity, timeout_s: float) -> Transport:
    """Site A's end. Raises ChannelError while the peer's engine is away."""
    context = identity.context(server=False)
    with channel_errors("connecting"):
        plain = socket.create_connection((host, port), timeout_s)
        with closed_on_error(plain):
            tuned(plain, HANDSHAKE_S)
            connection = context.wrap_socket(plain)
            require_peer(connection, identity.peer_kme)
    return Transport(connection, Side.B, identity)


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


def require_peer(connection: ssl.SSLSocket, peer_kme: KmeId) -> None:
    """Raises ChannelError unless the certificate names the expected KME as its URI."""
    wanted = f"urn:keyferry:kme:{peer_kme}"
    certificate: Any = connection.getpeercert() or {}
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if names != [wanted]:
        raise ChannelError(f"the peer's certificate names {names}, not {wanted}")
