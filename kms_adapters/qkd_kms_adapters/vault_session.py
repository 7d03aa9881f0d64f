"""A logged-in conversation with one Vault-compatible server (OpenBao or HashiCorp Vault)."""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock, local
from typing import TypeVar
from urllib.parse import urlsplit

import hvac
import requests
from hvac import exceptions as vault

from qkd_core.errors import ConfigError, SinkError, SinkRejected, SinkUnavailable
from qkd_kms_adapters.vault_login import Stamp, VaultLogin

T = TypeVar("T")

MAY_PASS = (
    vault.VaultDown,  # 503: sealed, or no leader
    vault.VaultNotInitialized,
    vault.InternalServerError,
    vault.BadGateway,
    vault.RateLimitExceeded,  # 429: also what a standby says of its health
    vault.UnexpectedError,  # without a class of its own: 412 (index not reached), 472, 473, 504
    requests.RequestException,  # no connection, no answer in time, or not in JSON
    OSError,  # a certificate file that is not there, or no pair with its key
)
NOT_YET = "unavailable for a brief period"  # 400 of a KV engine that is making its tables
REFUSED = (vault.Forbidden, vault.Unauthorized)
SHORT_LIFE = (
    4  # a token that renewing gives less than 1 in SHORT_LIFE of its first life is replaced
)


@contextmanager
def our_errors(what: str) -> Iterator[None]:
    """Turn every failure of the Vault client into a SinkError."""
    try:
        yield
    except MAY_PASS as error:
        raise SinkUnavailable(f"{what}: no answer that counts ({reason_of(error)})") from error
    except vault.InvalidRequest as error:
        reason = reason_of(error)
        if NOT_YET in reason:
            raise SinkUnavailable(f"{what}: not ready yet ({reason})") from error
        raise SinkRejected(f"{what}: refused ({reason})") from error
    except vault.VaultError as error:
        raise SinkRejected(f"{what}: refused ({reason_of(error)})") from error


def reason_of(error: Exception) -> str:
    """The server's own words on one line, else the class of the failure; no request is quoted."""
    if isinstance(error, vault.VaultError) and error.errors:
        return " ".join(", ".join(error.errors).split())
    untrusted = _certificate_error(error)
    if untrusted is not None:
        why = untrusted.verify_message
        return f"{type(error).__name__}: the server's certificate is not trusted, {why}"
    return type(error).__name__


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """What the client library made its own failure of, at whatever depth."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause


def connect(
    url: str,
    ca: Path,
    *,
    timeout_s: float,
    namespace: str | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> hvac.Client:
    """A client without a token, that trusts ``ca`` only and reads no environment.

    ``certificate``: what it shows the server: the certificate's file and its key's.
    Raises ConfigError unless the URL is https and the CA file is there.
    """
    if urlsplit(url).scheme != "https":
        raise ConfigError(f"Vault address {url}: https only")
    if not ca.is_file():
        raise ConfigError(f"Vault CA certificate {ca}: no such file")
    session = requests.Session()
    session.trust_env = False  # else REQUESTS_CA_BUNDLE and .netrc would win over what is given
    session.verify = str(ca)
    session.adapters.pop("http://")  # a redirection must not lead out of TLS
    shown = tuple(map(str, certificate)) if certificate else ()
    session.cert = shown or None  # type: ignore[assignment]
    return hvac.Client(
        url=url,
        token="",  # None would be taken from VAULT_TOKEN
        cert=shown,  # None would be taken from VAULT_CLIENT_CERT
        verify=str(ca),
        timeout=timeout_s,
        session=session,
        namespace=namespace,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """``stamp``: of the credentials that it was given for; ``first_life_s``: before renewals."""

    value: str = field(repr=False)
    stamp: Stamp
    first_life_s: float
    renew_at: float
    expires_at: float

    def renewed(self, life_s: float, now: float) -> "_Token":
        return replace(self, renew_at=now + life_s / 2, expires_at=now + life_s)


class VaultSession:
    """Calls with one token, which is renewed at half its life and replaced when refused.

    For any number of threads, each with connections of its own. Each answer's index goes back with
    the thread's next request, so that a standby node which has not caught up forwards instead of
    answering from the past.
    Source: OpenBao RFC "Support client-indicated minimum storage indices".
    """

    def __init__(self, login: VaultLogin, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._login = login
        self._monotonic = monotonic
        self._threads = local()
        self._lock = Lock()  # held for as long as a login or a renewal takes
        self._token: _Token | None = None
        self._failures = 0  # logins that failed
        self._failure: SinkError | None = None

    def run(self, what: str, call: Callable[[hvac.Client], T]) -> T:
        """What ``call`` returns, given a logged-in client.

        ``what`` opens the messages. A refused token is replaced and ``call`` made once more, so
        it must bear repetition. Raises SinkUnavailable, SinkRejected.
        """
        with our_errors(what):
            client = self._client()
            token = self._ready(client)
            try:
                return call(client)
            except REFUSED:
                if self._is_good(client):
                    raise  # the token is, so it was the call that was refused
            self._log_in_once(client, token)
            return call(client)

    def catch_up(self, what: str) -> None:
        """From here on, this thread's reads see all that was written before, by anyone anywhere.

        Renewing the token is a write, thus made by the active node after all earlier ones; its
        index holds later reads to that point. Raises SinkUnavailable, SinkRejected.
        """
        self.run(what, renew)

    def _client(self) -> hvac.Client:
        """This thread's own."""
        if not hasattr(self._threads, "client"):
            login = self._login
            client = connect(
                login.url,
                login.ca,
                timeout_s=login.timeout_s,
                namespace=login.namespace,
                certificate=login.method.certificate,
            )
            client.session.hooks["response"].append(note_index(client.session))
            self._threads.client = client
        found: hvac.Client = self._threads.client
        return found

    def _ready(self, client: hvac.Client) -> _Token:
        """Give ``client`` a token that is good as far as known."""
        token, now, stamp = self._token, self._monotonic(), self._login.method.stamp()
        if token is None or now >= token.expires_at or (stamp and stamp != token.stamp):
            return self._log_in_once(client, token)
        if now >= token.renew_at and self._lock.acquire(blocking=False):  # else another thread does
            try:
                if self._token is token:
                    token = self._renewed(client, token)
            finally:
                self._lock.release()
        try:
            self._adopt(client, token)
        except REFUSED:
            return self._log_in_once(client, token)
        return token

    def _renewed(self, client: hvac.Client, token: _Token) -> _Token:
        try:
            self._adopt(client, token)
            life_s = renew(client)
        except (*REFUSED, vault.InvalidRequest):
            life_s = 0.0
        if life_s * SHORT_LIFE < token.first_life_s:  # near the end that its maker has set
            return self._log_in(client)
        self._token = token.renewed(life_s, self._monotonic())
        return self._token

    def _log_in_once(self, client: hvac.Client, old: _Token | None) -> _Token:
        """The token that follows ``old``: of whoever comes first, and his failure for who waited.

        A server that is down must not keep each waiting thread for a whole timeout of its own.
        """
        failures = self._failures
        with self._lock:
            if self._failure is not None and self._failures != failures:
                raise type(self._failure)(str(self._failure))
            token = self._token
            if token is None or token is old:
                try:
                    with our_errors(f"login at {self._login.url}"):
                        return self._log_in(client)
                except SinkError as error:
                    self._failures, self._failure = self._failures + 1, error
                    raise
        self._adopt(client, token)
        return token

    def _log_in(self, client: hvac.Client) -> _Token:
        method = self._login.method
        stamp = method.stamp()
        client.token = ""
        client.session.headers.pop("X-Vault-Index", None)  # the server may have been replaced
        auth = method.log_in(client)
        client.token = auth["client_token"]
        life_s = float(auth["lease_duration"])
        now = self._monotonic()
        self._token = _Token(
            value=client.token, stamp=stamp, first_life_s=life_s, renew_at=now, expires_at=now
        ).renewed(life_s, now)
        return self._token

    def _adopt(self, client: hvac.Client, token: _Token) -> None:
        """Use a token that another thread may have brought.

        If the server was replaced meanwhile, this thread's index means nothing there, and if it
        was not, reads must not fall back behind it: so it is taken anew, of a write.
        """
        if client.token == token.value:
            return
        client.token = token.value
        if client.session.headers.pop("X-Vault-Index", None) is not None:
            renew(client)

    def _is_good(self, client: hvac.Client) -> bool:
        try:
            renew(client)
        except REFUSED:
            return False
        except vault.InvalidRequest:  # it is known, though it cannot be renewed
            return True
        return True


def renew(client: hvac.Client) -> float:
    """Renew the client's token; returns the seconds that it has left."""
    return float(client.auth.token.renew_self()["auth"]["lease_duration"])


def note_index(http: requests.Session) -> Callable[..., None]:
    """A hook on ``http`` that sends the index of each answer with the next request."""

    def note(response: requests.Response, **_: object) -> None:
        index = response.headers.get("X-Vault-Index")
        if index is not None:
            http.headers["X-Vault-Index"] = index
            http.headers["X-Vault-Inconsistent"] = "forward-active-node"

    return note
