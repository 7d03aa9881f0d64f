"""How a server is told of the plugin: typed commands, or a part of its configuration file."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOUNT = "qkd"  # what the examples use


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A plugin as a server's catalogue has it.

    name      in the catalogue, and of the engines mounted from it
    command   the file's name in the server's plugin folder
    version   as the plugin itself reports it, or the server refuses the entry
    """

    name: str
    command: str
    version: str
    sha256: str


def commands(entry: Entry) -> list[str]:
    """What an administrator types once to have the engine."""
    register = (
        f"bao plugin register -sha256={entry.sha256} -command={entry.command}"
        f" -version={entry.version} secret {entry.name}"
    )
    return [register, f"bao secrets enable -path={MOUNT} {entry.name}"]


def upgrade_commands(entry: Entry, mounts: list[str]) -> list[str]:
    """What makes ``mounts`` run this version, after it is registered."""
    tunes = [
        f"bao secrets tune -plugin-version={entry.version} {shlex.quote(mount)}" for mount in mounts
    ]
    return [*tunes, f"bao plugin reload -plugin={entry.name}"]


def as_json(entry: Entry, folder: Path) -> dict[str, Any]:
    """The part of a server's configuration in JSON that registers the plugin at its start."""
    block = {"command": entry.command, "version": entry.version, "sha256sum": entry.sha256}
    return {
        "plugin_directory": str(folder),
        "plugin_auto_register": True,
        "plugin": {"secret": {entry.name: block}},
    }


def as_hcl(entry: Entry, folder: Path) -> str:
    """The same in HCL, which quotes text as JSON does."""
    return "\n".join(
        (
            f"plugin_directory = {json.dumps(str(folder))}",
            "plugin_auto_register = true",
            f'plugin "secret" "{entry.name}" {{',
            f'  command   = "{entry.command}"',
            f'  version   = "{entry.version}"',
            f'  sha256sum = "{entry.sha256}"',
            "}",
        )
    )
