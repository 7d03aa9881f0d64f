"""One signed message to a consumer, by HTTPS.

Signed by the Standard Webhooks scheme: HMAC-SHA256, under the consumer's secret, of the message's
ID, the time of sending and the body. Source: standardwebhooks.com, specification 1.0, "Signature
scheme".
"""

import hmac
import os
import socket
import ssl
import stat
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Timer
from urllib.parse import SplitResult, urlsplit

from keyferry.config.policies import WebhookSettings
from qkd_core.errors import ConfigError, ConsumerGone, ConsumerUnavailable

TIMEOUT_S = 5.0  # for connecting, and as long for the rest of the call
PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)  # as the scheme has it
LONGEST_FILE = 4096
OK, GONE = range(200, 300), 410
HTTPS = 443


class WebhookCall:
    """Messages to one URL. Thread-safe; secret and CA are read at every call, so they may change.

    Raises ConfigError when the URL, the secret or the CA cannot be used.
    """

    def __init__(self, settings: WebhookSettings, timeout_s: float = TIMEOUT_S) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        self._url = checked_url(settings.url)
        self.host = f"{self._url.hostname}:{self._url.port or HTTPS}"  # a path may be confidential
        secrets_of(settings.secret)
        self._context()

    def __repr__(self) -> str:
        return f"WebhookCall({self.host!r})"

    @property
    def url(self) -> str:
        return self._settings.url

    def tell(self, message_id: str, body: bytes, now: float) -> None:
        """Post ``body``, JSON, at the time ``now``.

        Raises ConsumerUnavailable for any answer but 2xx, and for none in time; ConsumerGone for
        410; ConfigError when the secret can no longer be used.
        """
        headers = signed(message_id, body, now, secrets_of(self._settings.secret))
        status = self._posted(body, headers)
        if status == GONE:
            raise ConsumerGone(f"{self.host} answered 410: it wants no messages any more")
        if status not in OK:
            raise ConsumerUnavailable(f"{self.host} answered {status}")

    def _posted(self, body: bytes, headers: dict[str, str]) -> int:
        expired = Event()
        try:
            return self._answer(body, headers, expired)
        except (OSError, HTTPException, UnicodeError) as error:  # the latter: no such host name
            if expired.is_set() or isinstance(error, TimeoutError):
                raise ConsumerUnavailable(
                    f"{self.host}: no answer in {self._timeout_s:g} s"
                ) from error
            raise ConsumerUnavailable(f"{self.host}: {cause_of(error)}") from error

    def _answer(self, body: bytes, headers: dict[str, str], expired: Event) -> int:
        """The status of the answer, of which no more is read."""
        host, port = str(self._url.hostname), self._url.port or HTTPS
        with (
            socket.create_connection((host, port), timeout=self._timeout_s) as plain,
            self._context().wrap_socket(
                plain, server_hostname=host, do_handshake_on_connect=False
            ) as secured,
        ):
            # A timeout of the socket counts from the last byte: a slow server could go on forever.
            limit = Timer(self._timeout_s, cut_off, (secured, expired))
            limit.daemon = True
            limit.start()
            try:
                secured.do_handshake()
                connection = HTTPConnection(host, port)
                connection.sock = secured
                connection.request("POST", target_of(self._url), body, headers)
                status = connection.getresponse().status
            finally:
                limit.cancel()
        if expired.is_set():  # what was cut off in the middle may look like an answer
            raise TimeoutError
        return status

    def _context(self) -> ssl.SSLContext:
        try:
            # Not the default context: that one would note session keys where the environment says.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if self._settings.ca is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(self._settings.ca)
            return context
        except OSError as error:  # SSLError is one
            raise ConfigError(f"{self._settings.ca}: no certificates to trust in it") from error


def cut_off(connection: ssl.SSLSocket, expired: Event) -> None:
    expired.set()
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not SSL's, which is another thread's
    except OSError:
        return  # it had just ended by itself


def checked_url(url: str) -> SplitResult:
    """Raises ConfigError; the message does not show more of it than the host."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError("webhook url: must be https://HOST[:PORT]/PATH, in ASCII")
    if parts.username is not None:
        raise ConfigError(f"webhook url: no name and password before {parts.hostname}")
    return parts


def target_of(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def secrets_of(path: Path) -> tuple[bytes, ...]:
    """The secrets in a file for its owner only: one a line, so that a consumer can change its own.

    Raises ConfigError.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            lines = file.read(LONGEST_FILE).split()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"{path}: mode {mode:04o}, others than its owner may use it: chmod 600")
    secrets = tuple(_secret(line) for line in lines)
    if not secrets or not all(len(secret) in SECRET_BYTES for secret in secrets):
        raise ConfigError(f"{path}: must hold {PREFIX} and base64 of 24 to 64 bytes in each line")
    return secrets


def _secret(line: bytes) -> bytes:
    """Empty when it is none."""
    prefix, encoded = line[: len(PREFIX)], line[len(PREFIX) :]
    try:
        return b64decode(encoded, validate=True) if prefix == PREFIX.encode() else b""
    except NotBase64:
        return b""


def signed(message_id: str, body: bytes, now: float, secrets: tuple[bytes, ...]) -> dict[str, str]:
    """The headers of a message that the holder of any of ``secrets`` can verify."""
    sent = str(int(now))
    content = f"{message_id}.{sent}.".encode() + body
    tags = [b64encode(hmac.digest(secret, content, "sha256")).decode() for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": sent,
        "webhook-signature": " ".join(f"v1,{tag}" for tag in tags),
    }


def cause_of(error: Exception) -> str:
    """What went wrong, without what the other side sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or type(error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
