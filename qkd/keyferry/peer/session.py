"""The other site's KME, over the inter-KME API: mutual TLS 1.3, and its name checked.

Everything that goes wrong is PeerUnavailable (no answer, or none from the right KME), PeerViolation
(an answer that the rules forbid) or KeyNotFound.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPSConnectionPool
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import SSLError

from keyferry.peer.silence import Silence
from qkd_api.arguments import objects, parse_json, text
from qkd_api.identity import kme_uri
from qkd_api.trust import LiveContext, TlsFiles, Trust
from qkd_api.wire import allocation_as_json, allocation_from_json
from qkd_api.witness import MARKS, Rider, header_of, marks_from_header, rides
from qkd_core.errors import (
    BadKeyRequest,
    ConfigError,
    KeyNotFound,
    PeerSilent,
    PeerUnavailable,
    PeerViolation,
)
from qkd_core.types.ids import KeyId, KmeId
from qkd_core.types.keys import Allocation
from qkd_core.types.witness import Marks

CONNECTIONS = 32  # kept open for reuse, one for each thread that asks at a time
NOT_LET_IN = (401, 403)
SERVER_SIDE = 500


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """What the peer answered: 2xx, or 4xx when it refused the request itself."""

    status: int
    fields: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 (RFC 9110: successful)

    @property
    def message(self) -> str:
        return str(self.fields.get("message", ""))


class PeerSession:
    """Calls to one KME, of which the certificate must name ``peer_kme``. Thread-safe.

    The files are read again when they change; open connections are given up then. Raises
    ConfigError when a certificate file cannot be used.
    """

    def __init__(  # noqa: PLR0913 (four files, one address, one name, one limit)
        self,
        base_url: str,
        *,
        cert: Path,
        key: Path,
        ca: Path,
        timeout_s: float,
        peer_kme: KmeId,
        crl: Path | None = None,
    ) -> None:
        self._base_url, self._peer, self._timeout_s = base_url.rstrip("/"), peer_kme, timeout_s
        self._ca = str(ca)
        trust = Trust(TlsFiles(ca=ca, cert=cert, key=key, crl=crl))
        self._context = LiveContext(trust, lambda: client_context(trust))
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies and no other CA from the environment
        self._mounted = self._context.current()
        self._session.mount("https://", NamedPeerAdapter(self._mounted, peer_kme))
        self._mounting = Lock()
        self._rider: Rider | None = None
        self._silence = Silence(peer_kme)

    def ride(self, rider: Rider) -> None:
        """From now on this site's marks go with every request, and the peer's are kept."""
        self._rider = rider

    def call(self, method: str, path: str, body: object = None) -> PeerAnswer:
        """Send one request that is safe to send twice. Raises PeerUnavailable, PeerViolation.

        Raises PeerSilent at once while the peer keeps other calls waiting; RolledBack, once marks
        ride with the requests.
        """
        rider = self._rider if rides(path) else None
        marks = {MARKS: header_of(rider.outgoing())} if rider is not None else {}
        with self._silence.broken():
            try:
                answer = self._sent(method, path, body, marks)
            except requests.RequestException as error:
                raise PeerSilent(f"KME {self._peer} did not answer: {_cause(error)}") from error
        if rider is not None and MARKS in answer.headers:
            rider.incoming(told_marks(answer.headers[MARKS]))
        if answer.status_code in NOT_LET_IN or answer.status_code >= SERVER_SIDE:
            raise PeerUnavailable(f"KME {self._peer} answered {answer.status_code}")
        try:
            fields = parse_json(answer.content)
        except BadKeyRequest as error:
            raise PeerViolation(
                f"KME {self._peer} answered {answer.status_code}: {error}"
            ) from None
        if not isinstance(fields, dict):
            raise PeerViolation(f"KME {self._peer} answered {answer.status_code} without an object")
        return PeerAnswer(answer.status_code, fields)

    def close(self) -> None:
        self._session.close()

    def _sent(
        self, method: str, path: str, body: object, headers: Mapping[str, str]
    ) -> requests.Response:
        try:
            return self._sent_once(method, path, body, headers)
        except (requests.exceptions.SSLError, requests.Timeout):
            raise
        except requests.ConnectionError:  # perhaps a kept connection that the peer just closed
            return self._sent_once(method, path, body, headers)

    def _sent_once(
        self, method: str, path: str, body: object, headers: Mapping[str, str]
    ) -> requests.Response:
        self._mount_current()
        return self._session.request(
            method,
            self._base_url + path,
            json=body,
            headers=dict(headers),
            timeout=self._timeout_s,
            verify=self._ca,
            allow_redirects=False,
        )

    def _mount_current(self) -> None:
        """Connections of before a renewal or a revocation end with the calls that use them."""
        context = self._context.current()
        if context is self._mounted:
            return
        with self._mounting:
            if context is not self._mounted:
                earlier = self._session.get_adapter(self._base_url)
                self._session.mount("https://", NamedPeerAdapter(context, self._peer))
                self._mounted = context
                earlier.close()


class Verdict(StrEnum):
    """The peer's answer for one allocation; ``missing``: its block is not at the peer, yet."""

    ACCEPTED = "accepted"
    MISSING = "missing"
    REFUSED = "refused"


class HttpPeerKme:
    """`qkd_core.ports.PeerKme` over HTTP."""

    def __init__(self, session: PeerSession, peer_kme: KmeId) -> None:
        self._session, self._peer = session, peer_kme

    def offer(self, allocations: Sequence[Allocation]) -> dict[KeyId, Verdict]:
        """Tell the peer of allocations of this site. Idempotent; one verdict for each.

        Raises PeerUnavailable; PeerViolation when the peer does not understand the request.
        """
        body = {"allocations": [allocation_as_json(each) for each in allocations]}
        answer = self._session.call("POST", "/peer/v1/allocations", body)
        if not answer.ok:
            raise PeerViolation(
                f"KME {self._peer} refused allocations: {answer.status} {answer.message}"
            )
        try:
            given = {
                KeyId(text(each, "key_id")): Verdict(text(each, "state"))
                for each in objects(answer.fields, "answers")
            }
        except (BadKeyRequest, ValueError) as error:
            raise PeerViolation(f"KME {self._peer} answered for allocations: {error}") from None
        return {each.key_id: given.get(each.key_id, Verdict.MISSING) for each in allocations}

    def pull(self, key_id: KeyId) -> Allocation:
        """Ask the allocator for one of its keys.

        Raises PeerUnavailable, KeyNotFound; PeerViolation for an answer about something else.
        """
        answer = self._session.call("GET", f"/peer/v1/allocations/{quote(key_id, safe='')}")
        if answer.status == 404:  # noqa: PLR2004 (not found)
            raise KeyNotFound(f"KME {self._peer} has allocated no key {key_id}")
        fields = answer.fields.get("allocation")
        if not answer.ok or not isinstance(fields, dict):
            raise PeerViolation(f"KME {self._peer} answered {answer.status} for key {key_id}")
        try:
            allocation = allocation_from_json(fields)
        except BadKeyRequest as error:
            raise PeerViolation(f"KME {self._peer}, key {key_id}: {error}") from None
        if allocation.key_id != key_id:
            raise PeerViolation(f"KME {self._peer} answered {allocation.key_id} for {key_id}")
        return allocation


def told_marks(value: str) -> Marks:
    """Raises PeerViolation."""
    try:
        return marks_from_header(value)
    except BadKeyRequest as error:
        raise PeerViolation(f"the peer's marks: {error}") from None


def client_context(trust: Trust) -> ssl.SSLContext:
    """TLS 1.3 towards servers of one authority, with our certificate. Raises ConfigError."""
    files = trust.files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_cert_chain(files.cert, files.key, password=lambda: "")
        context.load_verify_locations(files.ca)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"certificate {files.cert}, key {files.key}, CA {files.ca}: cannot be used: {error}"
        ) from error
    trust.require_unrevoked(context)
    return context


class NamedPeerAdapter(HTTPAdapter):
    """Connects only to the KME whose certificate carries the expected name."""

    def __init__(self, context: ssl.SSLContext, peer_kme: KmeId) -> None:
        self._context, self._pool = context, pool_to(peer_kme)
        super().__init__(pool_maxsize=CONNECTIONS)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = {"https": self._pool}


def pool_to(peer_kme: KmeId) -> type[HTTPSConnectionPool]:
    """The connections of an `HTTPAdapter` that say nothing before the server's name is checked."""
    expected = ("URI", kme_uri(peer_kme))

    class NamedPeerConnection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            certificate = self.sock.getpeercert() if isinstance(self.sock, ssl.SSLSocket) else None
            if not certificate or expected not in certificate.get("subjectAltName", ()):
                self.close()
                raise SSLError(f"the server's certificate does not name KME {peer_kme}")

    class NamedPeerPool(HTTPSConnectionPool):
        ConnectionCls = NamedPeerConnection

    return NamedPeerPool


def _cause(error: BaseException) -> str:
    """The innermost error in words: urllib3 wraps it several times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
