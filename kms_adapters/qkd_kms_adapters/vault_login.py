"""The ways to log in at a Vault-compatible server. Each leaves its secrets in their files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import hvac
from hvac import exceptions as vault

from qkd_core.errors import ConfigError, SinkRejected, SinkUnavailable
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.targets import existing_file
from qkd_kms_adapters.vault_wrapped import unwrapped

Stamp = tuple[int, ...]


class LoginMethod(Protocol):
    """How to get a token; frozen, compared by value."""

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """What the client shows in the TLS handshake: the certificate's file and its key's."""

    def stamp(self) -> Stamp:
        """Changes with the credentials, so that a token of the old ones is dropped.

        Empty when there is nothing to see.
        """

    def log_in(self, client: hvac.Client) -> Mapping[str, Any]:
        """The ``auth`` part of the server's answer. ``client`` has no token.

        Raises what the client library raises, SinkUnavailable, SinkRejected.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRole:
    """A role ID and a secret ID, each in a file."""

    role_id: Path
    secret_id: Path
    mount: str = "approle"
    certificate: None = field(default=None, init=False)

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "AppRole":
        return cls(
            role_id=folder / table.text("role_id"),
            secret_id=folder / table.text("secret_id"),
            mount=table.text("login_mount", "approle"),
        )

    def stamp(self) -> Stamp:
        """A token outlives the secret ID that it was given for."""
        return ()

    def log_in(self, client: hvac.Client) -> Mapping[str, Any]:
        return approle(client, self.mount, self.role_id, text_of(self.secret_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedAppRole:
    """A role ID, and a token that stands for a secret ID of ``role`` and can be used once.

    Source: OpenBao, "Response wrapping", validating the creation path before unwrapping.
    """

    role_id: Path
    wrapped_secret_id: Path
    role: str
    mount: str = "approle"
    certificate: None = field(default=None, init=False)

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "WrappedAppRole":
        return cls(
            role_id=folder / table.text("role_id"),
            wrapped_secret_id=folder / table.text("wrapped_secret_id"),
            role=table.text("role"),
            mount=table.text("login_mount", "approle"),
        )

    def stamp(self) -> Stamp:
        """A new wrapping token is unwrapped at once: it does not live long."""
        return file_stamp(self.wrapped_secret_id)

    def log_in(self, client: hvac.Client) -> Mapping[str, Any]:
        creation_path = f"auth/{self.mount.strip('/')}/role/{self.role}/secret-id"
        secret_id = unwrapped(client, self.wrapped_secret_id, creation_path)
        return approle(client, self.mount, self.role_id, secret_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """A certificate that the server's cert method knows; ``role`` None: any that fits it."""

    cert: Path
    key: Path
    role: str | None = None
    mount: str = "cert"

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "ClientCertificate":
        return cls(
            cert=existing_file(table, "client_cert", folder),
            key=existing_file(table, "client_key", folder),
            role=table.text("role") if table.has("role") else None,
            mount=table.text("login_mount", "cert"),
        )

    @property
    def certificate(self) -> tuple[Path, Path]:
        return self.cert, self.key

    def stamp(self) -> Stamp:
        return ()

    def log_in(self, client: hvac.Client) -> Mapping[str, Any]:
        for path in self.certificate:  # the client library would not say which one is missing
            text_of(path)
        asked = {} if self.role is None else {"name": self.role}
        answer = client.adapter.post(f"/v1/auth/{self.mount.strip('/')}/login", json=asked)
        auth: Mapping[str, Any] = answer["auth"]
        return auth


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """A token that somebody else keeps in a file, an agent perhaps; it must be renewable."""

    token: Path
    certificate: None = field(default=None, init=False)

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "TokenFile":
        return cls(token=folder / table.text("token"))

    def stamp(self) -> Stamp:
        return file_stamp(self.token)

    def log_in(self, client: hvac.Client) -> Mapping[str, Any]:
        client.token = text_of(self.token)
        try:
            auth: Mapping[str, Any] = client.auth.token.renew_self()["auth"]
        except vault.InvalidRequest as error:
            why = ", ".join(error.errors or ["refused"])
            raise SinkRejected(f"token of {self.token}: cannot be renewed ({why})") from error
        except (vault.Forbidden, vault.Unauthorized) as error:
            raise SinkRejected(f"token of {self.token}: expired or revoked") from error
        return auth


METHODS: Mapping[str, Callable[[SettingsTable, Path], LoginMethod]] = {
    "approle": AppRole.from_settings,
    "approle-wrapped": WrappedAppRole.from_settings,
    "cert": ClientCertificate.from_settings,
    "token-file": TokenFile.from_settings,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultLogin:
    """Where a server is and how to log in there.

    ``timeout_s`` bounds each call's connection, and each wait for bytes of its answer.
    """

    url: str
    ca: Path
    method: LoginMethod
    namespace: str | None = None
    timeout_s: float = 10.0

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "VaultLogin":
        """Raises ConfigError."""
        return cls(
            url=table.text("url", pattern=r"https://.+"),
            ca=existing_file(table, "ca", folder),
            method=METHODS[table.choice("login", list(METHODS), "approle")](table, folder),
            namespace=table.text("namespace") if table.has("namespace") else None,
            timeout_s=table.number("timeout_s", 0.1, 60, 10.0),
        )

    def place(self, mount: str, path: str) -> str:
        """What is at ``path`` of an engine, in words that tell it from all else at the server."""
        where = f"{mount.strip('/')}/{path.strip('/')}"
        return where if self.namespace is None else f"{self.namespace.strip('/')}: {where}"

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= 60:  # noqa: PLR2004  # the two limits are in the message
            raise ConfigError(f"Vault timeout_s {self.timeout_s}: above 0, at most 60")


def approle(client: hvac.Client, mount: str, role_id: Path, secret_id: str) -> Mapping[str, Any]:
    answer = client.auth.approle.login(
        role_id=text_of(role_id), secret_id=secret_id, use_token=False, mount_point=mount.strip("/")
    )
    auth: Mapping[str, Any] = answer["auth"]
    return auth


def text_of(path: Path) -> str:
    """The one line of a credential file. Raises SinkUnavailable when there is none to read."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:  # it may be mounted or rotated in a moment
        raise SinkUnavailable(f"credential file {path}: {error.strerror}") from error
    except UnicodeDecodeError:  # not quoted: its bytes may be half a secret
        raise SinkUnavailable(f"credential file {path}: not a text") from None
    if not text:
        raise SinkUnavailable(f"credential file {path}: empty")
    return text


def file_stamp(path: Path) -> Stamp:
    """Of a file that may not be there."""
    try:
        seen = path.stat()
    except OSError:
        return ()
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
