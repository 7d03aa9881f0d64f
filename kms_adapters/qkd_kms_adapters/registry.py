"""Which kinds of key management systems a site file may name, and the class that reads each."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from qkd_core.errors import ConfigError
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.targets import Target

KINDS: Final[Mapping[str, str]] = {
    "vault-kv": "vault_kv:VaultKvTarget",
    "vault-transit": "vault_transit:VaultTransitTarget",
    "file": "file:FileTarget",
    "wireguard": "wireguard:WireGuardTarget",
    "kmip": "kmip:KmipTarget",
    "pkcs11": "pkcs11:Pkcs11Target",
}
"""Module and class of each kind, imported only when a file names it."""

EXTRAS: Final[Mapping[str, str]] = {"kmip": "kmip", "pkcs11": "pkcs11"}
"""The extra that brings what a kind needs, for those that need one."""


def target_class(kind: str) -> type[Target]:
    """Raises ConfigError when the package behind it is not installed."""
    module, _, name = KINDS[kind].partition(":")
    try:
        found: type[Target] = getattr(import_module(f"qkd_kms_adapters.{module}"), name)
    except ModuleNotFoundError as error:
        if kind not in EXTRAS:
            raise
        raise ConfigError(
            f"target kind {kind} needs the package {error.name}:"
            f" pip install 'keyferry[{EXTRAS[kind]}]'"
        ) from error
    return found


def kind_of(target: Target) -> str:
    """The kind that a site file names ``target`` by."""
    made_by = f"{type(target).__module__.rpartition('.')[2]}:{type(target).__name__}"
    return next(kind for kind, named in KINDS.items() if named == made_by)


def read_target(table: SettingsTable, folder: Path) -> Target:
    """The target that ``table`` names; paths in it are relative to ``folder``.

    Raises ConfigError.
    """
    kind = table.choice("kind", list(KINDS))
    with table.checks():
        target = target_class(kind).from_settings(table, folder)
    table.finish()
    return target
