"""A client of the ETSI GS QKD 014 key delivery API, for services. Standard library only."""

import json
import math
import selectors
import ssl
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from qkd_client.deadline import Deadline, DeadlineConnection
from qkd_client.tls import context_from_files
from qkd_client.wire import (
    Key,
    KmeError,
    KmeTimedOut,
    KmeUnreachable,
    Status,
    keys_from_json,
    status_from_json,
)

LARGEST_ANSWER_BYTES = 16 << 20
TIMEOUT_S = 10.0
HTTPS_PORT = 443
OK = 200
LONGEST_NUMBER = 9  # digits of a Retry-After


class Etsi014Client:
    """One SAE's connection to its KME, kept open between calls. Not thread-safe but for `abort`.

    ``url`` is ``https://HOST[:PORT]``. Every call raises KmeError: with the KME's status and
    message, or KmeUnreachable; under it KmeTimedOut after ``timeout_s``, which is for the whole
    call. A key that was asked for and did not arrive may be gone: the caller asks for a new one.

    ``sent``: whether the call under way, or the last, has got as far as its request. While it has
    not, `abort` makes sure that it will not.
    """

    sent: bool

    def __init__(
        self, url: str, cert: Path, key: Path, ca: Path, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._open(url, context_from_files(cert, key, ca), timeout_s)

    @classmethod
    def with_context(
        cls, url: str, context: ssl.SSLContext, *, timeout_s: float = TIMEOUT_S
    ) -> Self:
        """With a context of `qkd_client.tls`, which clients of one SAE may share.

        Raises ValueError for a URL that is none.
        """
        client = cls.__new__(cls)
        client._open(url, context, timeout_s)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        self._connection.release()

    def abort(self) -> None:
        """Called from another thread: the call under way there is KmeUnreachable, as all later."""
        self._connection.abort()

    def _open(self, url: str, context: ssl.SSLContext, timeout_s: float) -> None:
        host, port = _host_and_port(url)
        self.sent = False
        self._deadline = Deadline(timeout_s)
        self._connection = DeadlineConnection(host, port, context, deadline=self._deadline)

    def status(self, slave_sae: str) -> Status:
        """What the KME can deliver for this SAE and ``slave_sae`` (clause 5.2)."""
        return status_from_json(self._call("GET", slave_sae, "status"))

    def get_key(
        self,
        slave_sae: str,
        *,
        number: int = 1,
        size: int | None = None,
        additional_slaves: Sequence[str] = (),
    ) -> tuple[Key, ...]:
        """New keys with this SAE as master (clause 5.3); ``size`` in bits, else the KME decides."""
        wanted: dict[str, Any] = {"number": number}
        if size is not None:
            wanted["size"] = size
        if additional_slaves:
            wanted["additional_slave_SAE_IDs"] = list(additional_slaves)
        return keys_from_json(self._call("POST", slave_sae, "enc_keys", wanted))

    def get_key_with_ids(self, master_sae: str, key_ids: Sequence[str]) -> tuple[Key, ...]:
        """The keys that ``master_sae`` was given under these IDs (clause 5.4)."""
        wanted = {"key_IDs": [{"key_ID": key_id} for key_id in key_ids]}
        return keys_from_json(self._call("POST", master_sae, "dec_keys", wanted))

    def _call(
        self, method: str, sae: str, call: str, wanted: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        path = f"/api/v1/keys/{quote(sae, safe='')}/{call}"
        body = None if wanted is None else json.dumps(wanted).encode()
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.sent = False
        self._deadline.start()
        try:
            self._drop_if_closed()
            if self._connection.sock is None:
                self._connection.connect()
            self.sent = True
            self._connection.request(method, path, body, headers)
            with self._connection.getresponse() as answer:
                return _fields(answer)
        except TimeoutError:
            self.close()
            raise KmeTimedOut(self._deadline.timeout_s, in_doubt=self.sent) from None
        except (OSError, HTTPException, KmeUnreachable) as error:
            self.close()
            if self._connection.aborted:  # whatever that looks like here
                why = "the call to the KME was given up"
            elif isinstance(error, KmeUnreachable):
                raise
            else:
                why = f"the KME did not answer: {error}"
            raise KmeUnreachable(why, in_doubt=self.sent) from error
        finally:
            self._connection.release()

    def _drop_if_closed(self) -> None:
        """A kept connection that has something to say before we ask was closed by the KME.

        Found out before a request is sent, since no request for keys is safe to send twice.
        """
        sock = self._connection.sock
        if sock is None:
            return
        with selectors.DefaultSelector() as selector:  # unlike select, of any file descriptor
            selector.register(sock, selectors.EVENT_READ)
            said_something = bool(selector.select(0))
        if said_something:
            self._connection.close()


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        address = urlsplit(url)
        host, port = address.hostname or "", address.port or HTTPS_PORT
        host.encode("idna")  # as the resolver does, when it is too late
    except ValueError:
        host, port = "", 0
    odd = not url.isprintable() or " " in url  # urlsplit passes over some of it
    if odd or not host or address.scheme != "https" or address.path not in ("", "/"):
        raise ValueError(f"the URL of a KME is https://HOST[:PORT], not {url!a}")
    return host, port


def _fields(answer: HTTPResponse) -> dict[str, Any]:
    """The JSON object of an answer with status 200. Raises KmeError."""
    body = answer.read(LARGEST_ANSWER_BYTES)
    if answer.read(1):
        raise KmeUnreachable(f"the KME's answer is above {LARGEST_ANSWER_BYTES} bytes")
    try:
        fields = json.loads(body, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError):
        fields = None
    if answer.status != OK:
        message = fields.get("message", "") if isinstance(fields, dict) else answer.reason
        raise KmeError(answer.status, str(message), _retry_after(answer))
    if not isinstance(fields, dict):
        raise KmeUnreachable("the KME's answer is not a JSON object")
    return fields


def _retry_after(answer: HTTPResponse) -> int | None:
    text = answer.getheader("Retry-After", "")
    sensible = text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER
    return int(text) if sensible else None


def _number(text: str) -> float:
    """JSON has no NaN and no Infinity, and what we pass on would not be JSON with them."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
