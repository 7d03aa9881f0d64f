"""Which key management systems a site file may name, and what each needs to know.

``TARGETS[kind](**settings).sink()`` is the sink; a wrong setting is a ConfigError or TypeError.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from qkd_core.errors import ConfigError
from qkd_core.ports import KeySink
from qkd_kms_adapters.memory import MemorySink
from qkd_kms_adapters.vault_kv import VaultKvSink
from qkd_kms_adapters.vault_session import VaultLogin, VaultSession


class Target(Protocol):
    """Where one site puts the keys of one refresh policy."""

    def sink(self) -> KeySink:
        """A new sink; it connects when it is first used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTarget:
    """Nowhere: the keys are lost with the process."""

    def sink(self) -> KeySink:
        return MemorySink()


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultKvTarget:
    """The secret ``path`` of the KV version 2 engine at ``mount``."""

    login: VaultLogin
    mount: str
    path: str

    def __post_init__(self) -> None:
        for name, value in (("mount", self.mount), ("path", self.path)):
            parts = value.strip("/").split("/")
            if not all(part and part not in (".", "..") and part.isprintable() for part in parts):
                raise ConfigError(f"Vault {name} {value!r}: names joined by single slashes")

    def sink(self) -> KeySink:
        return VaultKvSink(VaultSession(self.login), self.mount, self.path)


TARGETS: Final[Mapping[str, type[MemoryTarget] | type[VaultKvTarget]]] = {
    "memory": MemoryTarget,
    "vault-kv": VaultKvTarget,
}
