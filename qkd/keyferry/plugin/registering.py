"""Registering the plugin in a running server's catalogue."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
from hvac import exceptions as vault

from keyferry.plugin.declaring import Entry
from qkd_core.errors import ConfigError
from qkd_kms_adapters.vault_session import connect, our_errors

CATALOGUE = "/v1/sys/plugins/catalog/secret"
CALL_TIMEOUT_S = 60.0  # the server starts the plugin before it answers
OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Registered:
    """``already``: it was there, just so. ``behind``: mounts that run something else of this name.

    That is another version of it, or a file that this one replaced.
    """

    already: bool
    behind: list[str]


def token_in(file: Path) -> str:
    """The token in a file that only its owner reads. Raises ConfigError."""
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            content = opened.read(4096)
    except OSError as error:
        raise ConfigError(f"--token-file {file}: cannot be read: {error.strerror}") from error
    if mode & OTHERS:
        raise ConfigError(
            f"--token-file {file}: mode {mode:04o}, others than its owner may use it: chmod 600"
        )
    token = content.strip()
    if not token or not token.isascii() or token.split() != [token]:
        raise ConfigError(f"--token-file {file}: must hold a token, alone in one line")
    return token.decode("ascii")


def register(url: str, ca: Path, token: str, entry: Entry) -> Registered:
    """See that the server at ``url`` has the plugin in its catalogue.

    The token may read and update ``sys/plugins/catalog/secret/NAME`` (which is for sudo), and read
    ``sys/mounts``; nothing is changed with one that may not.
    Raises ConfigError, SinkUnavailable, SinkRejected.
    """
    client = connect(url, ca, timeout_s=CALL_TIMEOUT_S)
    client.token = token
    with our_errors(f"OpenBao at {url}: registering {entry.name} {entry.version}"):
        mounts = _mounts(client, entry.name)
        already = _is_there(client, entry)
        if not already:
            client.adapter.put(
                f"{CATALOGUE}/{entry.name}",
                json={
                    "sha256": entry.sha256,
                    "command": entry.command,
                    "version": entry.version,
                },
            )
    return Registered(already, sorted(_behind(mounts, entry)))


def _is_there(client: hvac.Client, entry: Entry) -> bool:
    try:
        answer = client.adapter.get(f"{CATALOGUE}/{entry.name}", params={"version": entry.version})
    except vault.InvalidPath:
        return False
    known = answer["data"]
    return (known["sha256"], known["command"]) == (entry.sha256, entry.command)


def _mounts(client: hvac.Client, name: str) -> dict[str, dict[str, Any]]:
    answer = client.adapter.get("/v1/sys/mounts")
    return {path: mount for path, mount in answer["data"].items() if mount["type"] == name}


def _behind(mounts: dict[str, dict[str, Any]], entry: Entry) -> list[str]:
    return [
        path
        for path, mount in mounts.items()
        if (mount.get("running_plugin_version"), mount.get("running_sha256"))
        != (entry.version, entry.sha256)
    ]
