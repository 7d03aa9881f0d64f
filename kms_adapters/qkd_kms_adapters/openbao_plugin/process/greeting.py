"""What the server says when it starts a plugin, and the one line that it waits for.

Source: go-plugin's handshake as OpenBao 2.7 uses it: environment variables in, a line on stdout
out.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COOKIE = ("VAULT_BACKEND_PLUGIN", "6669da05-b1c8-4f49-97d9-c8e5bed98e20")
CORE_PROTOCOL = "1"
PROTOCOL = "5"  # of secrets engines; 3 and 4 are tried after a failure of 5


class CannotStart(Exception):
    """One line: why this process cannot serve. It ends with status 1."""


class NotAPlugin(CannotStart):
    """Nobody is there to speak with: for a person who starts the program by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """How the server wants to speak with its plugin.

    host_certificate   PEM: the only certificate that the server shows, at either end
    socket_folder      where the socket is to be, None for the plugin's choice
    asks_multiplexing  whether the line has a seventh field: go-plugin's multiplexing of
                       connections, not that of mounts
    """

    host_certificate: str
    socket_folder: Path | None
    asks_multiplexing: bool


def offer(environ: Mapping[str, str]) -> Offer:
    """What the server offers in ``environ``. Raises NotAPlugin where there is nothing to serve."""
    if environ.get(COOKIE[0]) != COOKIE[1]:
        raise NotAPlugin(
            "This is a secrets engine for OpenBao and Vault. The server starts it: "
            "`keyferry plugin install --help` says how it gets there."
        )
    if _is_true(environ, "PLUGIN_METADATA_MODE"):
        raise NotAPlugin(
            "The server asks for metadata mode, and this plugin knows protocol 5 only."
        )
    versions = environ.get("PLUGIN_PROTOCOL_VERSIONS", "")
    if PROTOCOL not in (version.strip() for version in versions.split(",")):
        raise NotAPlugin(
            f"The server offers protocols {versions or 'none'}, and this plugin knows 5 only."
        )
    certificate = environ.get("PLUGIN_CLIENT_CERT", "")
    if not certificate:
        raise NotAPlugin("The server shows no certificate, and this plugin speaks mutual TLS only.")
    folder = environ.get("PLUGIN_UNIX_SOCKET_DIR")
    return Offer(
        host_certificate=certificate,
        socket_folder=Path(folder) if folder else None,
        asks_multiplexing="PLUGIN_MULTIPLEX_GRPC" in environ,
    )


def greeting(socket: Path, certificate_der: bytes, offer: Offer) -> str:
    """The line that tells the server where to connect and which certificate it will meet.

    Raises CannotStart where the path would break the line.
    """
    if any(character in str(socket) for character in "|\r\n"):
        raise CannotStart(f"socket {str(socket)!r}: its path must be free of | and line breaks")
    certificate = b64encode(certificate_der).decode().rstrip("=")  # as Go's RawStdEncoding
    fields = [CORE_PROTOCOL, PROTOCOL, "unix", str(socket), "grpc", certificate]
    if offer.asks_multiplexing:  # a server that does not ask takes a seventh field for the sixth
        fields.append("false")
    return "|".join(fields) + "\n"


def _is_true(environ: Mapping[str, str], name: str) -> bool:
    return any(environ.get(f"{brand}_{name}") == "true" for brand in ("BAO", "VAULT"))
