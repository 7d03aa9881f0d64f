"""One SAE as a plain HTTPS client, and how a KME's answers are read. Standard library only.

Nothing here repairs or guesses: what the KME sends is what a check sees.
"""

import json
import ssl
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from qkd_core.errors import ConfigError

TIMEOUT_S = 15.0
PATIENCE_S = 30.0  # for keys to come in, when the KME says that it has too few
LARGEST_ANSWER_BYTES = 16 << 20
OK, BAD_REQUEST, UNAUTHORISED, UNAVAILABLE = 200, 400, 401, 503
ERRORS = (BAD_REQUEST, UNAUTHORISED, UNAVAILABLE)  # tables 4, 6 and 8 have no others


class Failed(AssertionError):
    """The KME did otherwise than the standard says: what, in one line."""


class NoAnswer(Failed):
    """None came, or none in HTTP: nobody decides so."""


class NotApplicable(Exception):
    """The check cannot be made with this KME as it is: why, in one line."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: HTTPMessage
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Raises Failed."""
        try:
            return json.loads(self.body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise Failed(f"{self.status} with a body that is not JSON in UTF-8: {error}") from None

    def said(self) -> str:
        """Status and message, for a reason; never the body of a delivery."""
        message = ""
        if self.status != OK:
            try:
                found = self.json()
            except Failed:
                found = None
            message = str(found.get("message", "")) if isinstance(found, dict) else ""
        return f"{self.status} {message!r}" if message else str(self.status)


@dataclass(frozen=True, slots=True)
class SaeFiles:
    """An SAE's name and where its certificate and key lie."""

    sae_id: str
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Address:
    """A KME's ``https://HOST[:PORT]``."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Address":
        """Raises ConfigError."""
        found = urlsplit(url)
        if found.scheme != "https" or not found.hostname or found.path not in ("", "/"):
            raise ConfigError(f"the URL of a KME is https://HOST[:PORT], not {url}")
        return cls(found.hostname, found.port or 443)


class Caller:
    """One SAE at its KME. Each request has a connection of its own."""

    def __init__(self, url: str, ca: Path, sae: SaeFiles) -> None:
        """Raises ConfigError for a file that cannot be used."""
        self.address, self.ca, self.sae = Address.of(url), ca, sae
        try:
            self._context = self.context()
            self._context.load_cert_chain(sae.cert, sae.key)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"CA {ca}, certificate {sae.cert}, key {sae.key}: cannot be used: {error}"
            ) from error

    @property
    def sae_id(self) -> str:
        return self.sae.sae_id

    def context(self) -> ssl.SSLContext:
        """A fresh one that trusts the KME's authority, without a client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # clause 4
        context.load_verify_locations(self.ca)
        return context

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        context: ssl.SSLContext | None = None,
    ) -> Answer:
        """Send ``body`` as JSON, or ``raw`` bytes as if they were. Raises Failed, OSError.

        OSError only with a ``context`` of the check's own, of which a refusal may be the point.
        """
        data = json.dumps(body).encode() if body is not None else raw
        headers = {"Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        connection = HTTPSConnection(
            self.address.host,
            self.address.port,
            timeout=TIMEOUT_S,
            context=context or self._context,
        )
        with _answering(connection, expected=context is None):
            connection.request(method, path, data, headers)
            return _read(connection)

    def ask_plainly(self, path: str) -> Answer:
        """Without TLS. Raises OSError."""
        connection = HTTPConnection(self.address.host, self.address.port, timeout=TIMEOUT_S)
        with _answering(connection, expected=False):
            connection.request("GET", path)
            return _read(connection)

    def status(self, slave: "Caller") -> dict[str, Any]:
        """Get status, answered with an object. Raises Failed."""
        return delivered(self.ask("GET", sae_path(slave, "status")))

    def new_keys(self, slave: "Caller", **wanted: Any) -> list[dict[str, Any]]:
        """Get key by POST; waits while the KME says 503, up to a limit. Raises Failed."""
        return self.patiently("POST", sae_path(slave, "enc_keys"), wanted)

    def patiently(self, method: str, path: str, body: object = None) -> list[dict[str, Any]]:
        """The keys of an answer; a KME that has too few for now is asked again."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self.ask(method, path, body)
            if answer.status != UNAVAILABLE or time.monotonic() > deadline:
                return keys_of(answer)
            advised = answer.headers.get("Retry-After", "")
            time.sleep(min(int(advised) if advised.isdigit() else 2, 5))

    def keys_with_ids(self, master: "Caller", *key_ids: str) -> Answer:
        """Get key with key IDs by POST."""
        wanted = {"key_IDs": [{"key_ID": key_id} for key_id in key_ids]}
        return self.ask("POST", sae_path(master, "dec_keys"), wanted)


def sae_path(sae: Caller | str, call: str) -> str:
    name = sae if isinstance(sae, str) else sae.sae_id
    return f"/api/v1/keys/{quote(name, safe='')}/{call}"


def delivered(answer: Answer) -> dict[str, Any]:
    """The object of an answer with status 200. Raises Failed."""
    if answer.status != OK:
        raise Failed(f"answered {answer.said()} instead of 200")
    found = answer.json()
    if not isinstance(found, dict):
        raise Failed("answered 200 with something that is not an object")
    return found


def keys_of(answer: Answer) -> list[dict[str, Any]]:
    """The array ``keys`` of a key container. Raises Failed."""
    keys = delivered(answer).get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise Failed("the key container has no array 'keys' of objects")
    return keys


def below_tls_1_2(context: ssl.SSLContext) -> None:
    """Let ``context`` offer TLS 1.1 at most."""
    with warnings.catch_warnings():  # that is the point
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")


def _read(connection: HTTPConnection) -> Answer:
    answer = connection.getresponse()
    return Answer(answer.status, answer.headers, answer.read(LARGEST_ANSWER_BYTES))


@contextmanager
def _answering(connection: HTTPConnection, *, expected: bool) -> Iterator[None]:
    try:
        yield
    except HTTPException as error:
        reason = f"the KME's answer is not HTTP: {type(error).__name__} {error}"
        raise (NoAnswer(reason) if expected else ConnectionError(reason)) from error
    except OSError as error:
        if not expected:
            raise
        raise NoAnswer(f"the KME did not answer: {error}") from error
    finally:
        connection.close()
