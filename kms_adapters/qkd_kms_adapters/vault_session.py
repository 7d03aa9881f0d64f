"""A logged-in conversation with one Vault-compatible server (OpenBao or HashiCorp Vault)."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import hvac
import requests
from hvac import exceptions as vault

from qkd_core.errors import ConfigError, SinkRejected, SinkUnavailable

T = TypeVar("T")

MAY_PASS = (
    vault.VaultDown,  # 503: sealed, or no leader
    vault.VaultNotInitialized,
    vault.InternalServerError,
    vault.BadGateway,
    vault.RateLimitExceeded,
    vault.UnexpectedError,  # a status without a class of its own: 412 (index not reached), 504
    requests.RequestException,  # no connection, no answer in time, or not in JSON
)


@contextmanager
def our_errors(what: str) -> Iterator[None]:
    """Turn every failure of the Vault client into a SinkError."""
    try:
        yield
    except MAY_PASS as error:
        raise SinkUnavailable(f"{what}: no answer that counts ({reason_of(error)})") from error
    except vault.VaultError as error:
        raise SinkRejected(f"{what}: refused ({reason_of(error)})") from error


def reason_of(error: Exception) -> str:
    """The server's own words on one line, else the class of the failure; no request is quoted."""
    if isinstance(error, vault.VaultError) and error.errors:
        return " ".join(", ".join(error.errors).split())
    return type(error).__name__


def connect(url: str, ca: Path, *, timeout_s: float, namespace: str | None = None) -> hvac.Client:
    """A client without a token, that trusts ``ca`` only and reads no environment.

    Raises ConfigError unless the URL is https and the CA file is there.
    """
    if urlsplit(url).scheme != "https":
        raise ConfigError(f"Vault address {url}: https only")
    if not ca.is_file():
        raise ConfigError(f"Vault CA certificate {ca}: no such file")
    session = requests.Session()
    session.trust_env = False  # else REQUESTS_CA_BUNDLE and .netrc would win over what is given
    session.verify = str(ca)
    return hvac.Client(
        url=url,
        token="",  # None would be taken from VAULT_TOKEN
        cert=(),  # None would be taken from VAULT_CLIENT_CERT
        verify=str(ca),
        timeout=timeout_s,
        session=session,
        namespace=namespace,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultLogin:
    """Where a server is and how to log in there by AppRole; the secrets stay in their files.

    ``timeout_s`` bounds each call's connection, and each wait for bytes of its answer.
    """

    url: str
    ca: Path
    role_id: Path
    secret_id: Path
    namespace: str | None = None
    timeout_s: float = 10.0
    approle_mount: str = "approle"

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= 60:  # noqa: PLR2004  # the two limits are in the message
            raise ConfigError(f"Vault timeout_s {self.timeout_s}: above 0, at most 60")


class VaultSession:
    """Calls with a cached token, which is renewed at half its life and replaced when refused.

    One thread at a time. Each answer's index goes back with the next request, so that a standby
    node which has not caught up forwards instead of answering from the past.
    Source: OpenBao RFC "Support client-indicated minimum storage indices".
    """

    def __init__(self, login: VaultLogin, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._login = login
        self._monotonic = monotonic
        self._client = connect(
            login.url, login.ca, timeout_s=login.timeout_s, namespace=login.namespace
        )
        self._http: requests.Session = self._client.session
        self._http.hooks["response"].append(self._note_index)
        self._renew_at = self._expires_at = -1.0

    def run(self, what: str, call: Callable[[hvac.Client], T]) -> T:
        """What ``call`` returns, given a logged-in client.

        ``what`` opens the messages. A refused token is replaced and ``call`` made once more, so
        it must bear repetition. Raises SinkUnavailable, SinkRejected.
        """
        with our_errors(what):
            if self._ensure_token():
                return call(self._client)
            try:
                return call(self._client)
            except (vault.Forbidden, vault.Unauthorized):  # revoked before its time
                self._log_in()
                return call(self._client)

    def catch_up(self, what: str) -> None:
        """From here on, reads see all that was written before, by anyone, on any node.

        Renewing the token is a write, thus made by the active node after all earlier ones; its
        index holds later reads to that point. Raises SinkUnavailable, SinkRejected.
        """

        def renew(client: hvac.Client) -> None:
            self._note_token(client.auth.token.renew_self())

        self.run(what, renew)

    def _ensure_token(self) -> bool:
        """Have a token that is good as far as known; True when it is brand new."""
        now = self._monotonic()
        if now < self._renew_at:
            return False
        if now < self._expires_at and self._renewed():
            return False
        self._log_in()
        return True

    def _renewed(self) -> bool:
        try:
            self._note_token(self._client.auth.token.renew_self())
        except (vault.Forbidden, vault.Unauthorized, vault.InvalidRequest):
            return False
        return self._monotonic() < self._renew_at

    def _log_in(self) -> None:
        self._client.token = ""
        self._http.headers.pop("X-Vault-Index", None)  # of a server that may have been replaced
        answer = self._client.auth.approle.login(
            role_id=text_of(self._login.role_id),
            secret_id=text_of(self._login.secret_id),
            mount_point=self._login.approle_mount,
        )
        self._note_token(answer)

    def _note_token(self, answer: dict[str, Any]) -> None:
        life_s = int(answer["auth"]["lease_duration"])
        now = self._monotonic()
        self._client.token = answer["auth"]["client_token"]
        self._renew_at, self._expires_at = now + life_s / 2, now + life_s

    def _note_index(self, response: requests.Response, **_: object) -> None:
        index = response.headers.get("X-Vault-Index")
        if index is not None:
            self._http.headers["X-Vault-Index"] = index
            self._http.headers["X-Vault-Inconsistent"] = "forward-active-node"


def text_of(path: Path) -> str:
    """The one line of a credential file. Raises SinkUnavailable when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:  # it may be mounted or rotated in a moment
        raise SinkUnavailable(f"credential file {path}: {error.strerror}") from error
