"""A mutually authenticated TLS connection to a KMIP server, and whole messages over it.

PyKMIP's own client checks no host name, reads settings from the home folder, and writes keys into
its debug log: only its encoder is used (`kmip_wire.py`), not its sockets.
"""

import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from qkd_core.errors import ConfigError, SinkUnavailable
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.targets import existing_file

PORT = 5696  # KMIP profiles 1.2, section 3
HEADER_BYTES = 8  # tag, type, and length of what follows; KMIP 1.2, section 9.1
LONGEST_ANSWER = 1 << 20  # bytes; a key and its attributes are a thousand or two


@dataclass(frozen=True, slots=True, kw_only=True)
class KmipLogin:
    """Where a server is, whom it must be signed by, and the certificate that logs in there.

    ``timeout_s`` bounds the connecting, and each exchange after it.
    """

    host: str
    port: int
    ca: Path
    cert: Path
    key: Path
    timeout_s: float = 10.0

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "KmipLogin":
        """Raises ConfigError."""
        return cls(
            host=table.text("host", pattern=r"[A-Za-z0-9.:-]+"),
            port=table.integer("port", 1, 65535, PORT),
            ca=existing_file(table, "ca", folder),
            cert=existing_file(table, "cert", folder),
            key=existing_file(table, "key", folder),
            timeout_s=table.number("timeout_s", 0.1, 60, 10.0),
        )

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= 60:  # noqa: PLR2004  # the two limits are in the message
            raise ConfigError(f"KMIP timeout_s {self.timeout_s}: above 0, at most 60")

    @property
    def url(self) -> str:
        return f"kmip://{self.host}:{self.port}"


def tls_context(login: KmipLogin) -> ssl.SSLContext:
    """TLS 1.2 or newer; the server's certificate must be of ``login.ca`` and name its host.

    The files are read anew for each connection, so renewed certificates are taken at once.
    """
    for file in (login.ca, login.cert, login.key):
        file.open("rb").close()  # the error of a missing one then has its name
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(login.ca)
    context.load_cert_chain(login.cert, login.key, password="")  # never ask at a terminal
    return context


class KmipConnection:
    """One connection; raises SinkUnavailable for all that goes wrong with it. Use it in ``with``.

    ``what`` opens the messages.
    """

    def __init__(self, login: KmipLogin, what: str) -> None:
        self._timeout_s = login.timeout_s
        self._what = what
        try:
            self._socket = _connected(login)
        except OSError as error:
            raise self._broken(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def exchange(self, request: bytes) -> bytes:
        """The whole answer to the whole message ``request``, within the timeout."""
        deadline = time.monotonic() + self._timeout_s
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(request)
            header = self._received(HEADER_BYTES, deadline)
            n_bytes = int.from_bytes(header[4:], "big")
            if n_bytes > LONGEST_ANSWER:
                raise ConnectionAbortedError(f"an answer of {n_bytes} bytes")
            return header + self._received(n_bytes, deadline)
        except OSError as error:
            raise self._broken(error) from error

    def _received(self, n_bytes: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < n_bytes:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            part = self._socket.recv(n_bytes - len(received))
            if not part:
                raise ConnectionResetError("the server closed the connection")
            received += part
        return bytes(received)

    def _broken(self, error: OSError) -> SinkUnavailable:
        return SinkUnavailable(f"{self._what}: no answer that counts ({reason_of(error)})")


def _connected(login: KmipLogin) -> ssl.SSLSocket:
    context = tls_context(login)
    plain = socket.create_connection((login.host, login.port), login.timeout_s)
    try:
        return context.wrap_socket(plain, server_hostname=login.host)
    except BaseException:
        plain.close()
        raise


def reason_of(error: OSError) -> str:
    """The class of the failure and what is known of it, on one line."""
    detail = getattr(error, "verify_message", None) or error.strerror or str(error)
    named = f" {error.filename}" if error.filename else ""
    return " ".join(f"{type(error).__name__}{named} {detail}".split())
