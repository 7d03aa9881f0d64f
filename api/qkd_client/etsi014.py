"""A client of the ETSI GS QKD 014 key delivery API, for services. Standard library only."""

import json
import select
import ssl
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from qkd_client.wire import Key, KmeError, KmeUnreachable, Status, keys_from_json, status_from_json

LARGEST_ANSWER_BYTES = 16 << 20
TIMEOUT_S = 10.0
OK = 200


class Etsi014Client:
    """One SAE's connection to its KME, kept open between calls. Not thread-safe.

    ``url`` is ``https://HOST[:PORT]``. Every call raises KmeError: with the KME's status and
    message, or KmeUnreachable. A key that was asked for and did not arrive may be gone: the
    caller asks for a new one.
    """

    def __init__(
        self, url: str, cert: Path, key: Path, ca: Path, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        address = urlsplit(url)
        if address.scheme != "https" or not address.hostname or address.path not in ("", "/"):
            raise ValueError(f"the URL of a KME is https://HOST[:PORT], not {url}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # clause 4
        context.load_cert_chain(cert, key)
        context.load_verify_locations(ca)
        self._connection = HTTPSConnection(
            address.hostname, address.port or 443, timeout=timeout_s, context=context
        )

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
        try:
            self._drop_if_closed()
            self._connection.request(method, path, body, headers)
            return _fields(self._connection.getresponse())
        except (OSError, HTTPException) as error:
            self.close()
            raise KmeUnreachable(f"the KME did not answer: {error}") from error
        except KmeUnreachable:
            self.close()
            raise

    def _drop_if_closed(self) -> None:
        """A kept connection that has something to say before we ask was closed by the KME.

        Found out before a request is sent, since no request for keys is safe to send twice.
        """
        sock = self._connection.sock
        if sock is not None and select.select([sock], [], [], 0)[0]:
            self._connection.close()


def _fields(answer: HTTPResponse) -> dict[str, Any]:
    """The JSON object of an answer with status 200. Raises KmeError."""
    body = answer.read(LARGEST_ANSWER_BYTES)
    if answer.read(1):
        raise KmeUnreachable(f"the KME's answer is above {LARGEST_ANSWER_BYTES} bytes")
    try:
        fields = json.loads(body)
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
    return int(text) if text.isascii() and text.isdigit() else None
