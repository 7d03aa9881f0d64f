"""Keys as versions of one secret in a KV version 2 engine (OpenBao, HashiCorp Vault).

A version's data are the strings ``key`` (base64), ``key_id``, ``generation`` and ``provenance``,
all written in one check-and-set call: strings, because the audit log of these servers hides
strings and shows numbers.
"""

import logging
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterator
from dataclasses import dataclass, field
from hmac import compare_digest
from pathlib import Path
from typing import Any

import hvac

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation, KeyId
from qkd_core.types.keys import DeliveredKey
from qkd_core.types.refresh import RefreshPolicy, SinkVersion
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.targets import Servers
from qkd_kms_adapters.vault_login import VaultLogin
from qkd_kms_adapters.vault_secret import (
    Metadata,
    Overtaken,
    VersionedSecret,
    check_granted,
    is_path,
    number,
)
from qkd_kms_adapters.vault_session import VaultSession

log = logging.getLogger(__name__)

MOST_IN_GRACE = 1000  # versions of a secret, whose metadata list them all
MAX_RACES = 5  # writes lost against others in a row before the caller is asked to come back later
KEEP, DESTROY = "keep", "destroy"


@dataclass(frozen=True, slots=True)
class _Version:
    """One version that a KME wrote."""

    native: int
    generation: Generation
    key_id: KeyId
    secret: bytes = field(repr=False)

    def is_of(self, key: DeliveredKey) -> bool:
        return compare_digest(self.secret, key.secret) and self.key_id == key.key_id


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultKvTarget:
    """The secret ``path`` of the KV version 2 engine at ``mount``.

    ``destroys``: whether a key is erased there when its grace is over.
    """

    login: VaultLogin
    mount: str
    path: str
    destroys: bool = False

    def __post_init__(self) -> None:
        for name, value in (("mount", self.mount), ("path", self.path)):
            if not is_path(value):
                raise ConfigError(f"Vault {name} {value!r}: names joined by single slashes")

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "VaultKvTarget":
        return cls(
            login=VaultLogin.from_settings(table, folder),
            mount=table.text("mount"),
            path=table.text("path"),
            destroys=table.choice("retire", [KEEP, DESTROY], KEEP) == DESTROY,
        )

    @property
    def server(self) -> str:
        return self.login.url

    @property
    def places(self) -> tuple[str, ...]:
        return (self.login.place(self.mount, self.path),)

    def check(self, policy: RefreshPolicy) -> None:
        """Any key is a text here. Raises ConfigError for a grace of too many generations."""
        if policy.most_in_grace > MOST_IN_GRACE:
            raise ConfigError(
                f"grace_s {policy.grace_s:g}: {policy.most_in_grace} generations at a time, a"
                f" secret keeps at most {MOST_IN_GRACE}"
            )

    def sink(self, policy: RefreshPolicy, servers: Servers) -> "VaultKvSink":
        session = servers.get(self.login, lambda: VaultSession(self.login))
        secret = VersionedSecret(self.mount, self.path)
        return VaultKvSink(session, secret, in_grace=policy.most_in_grace, destroys=self.destroys)


class VaultKvSink:
    """Implements ReadableSink on one secret.

    ``in_grace``: how many generations before the agreed one are kept for their grace.
    """

    def __init__(
        self,
        session: VaultSession,
        secret: VersionedSecret,
        *,
        in_grace: int = 0,
        destroys: bool = False,
    ) -> None:
        self._session = session
        self._secret = secret
        self._in_grace, self._destroys = in_grace, destroys

    def prepare(self, key: DeliveredKey, generation: Generation) -> None:
        what = f"{self._secret}: preparing generation {generation}"
        self._session.run(what, self._check)
        self._session.catch_up(what)
        self._session.run(what, lambda kv: self._prepare(kv, generation))

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        what = f"{self._secret}: key {key.key_id} as generation {generation}"
        # An earlier try may have been written though its reply was lost: look, then write.
        self._session.catch_up(what)
        for _ in range(MAX_RACES):
            try:
                return self._session.run(what, lambda kv: self._publish(kv, key, generation))
            except Overtaken:
                log.warning("%s: another writer came first, looking again", what)
        raise SinkUnavailable(f"{what}: {MAX_RACES} writes in a row came after another writer")

    def agree(self, generation: Generation) -> None:
        what = f"{self._secret}: agreeing on generation {generation}"
        self._session.catch_up(what)
        self._session.run(what, lambda kv: self._agree(kv, generation))

    def abandon(self, generation: Generation) -> None:
        """Nothing is written before it is published."""

    def retire(self, generation: Generation) -> None:
        """Erase the version, or leave it to the engine to drop it, as the target says."""
        if self._destroys:
            what = f"{self._secret}: destroying generation {generation}"
            self._session.catch_up(what)
            self._session.run(what, lambda kv: self._destroy(kv, generation))

    def versions(self) -> tuple[SinkVersion, ...]:
        what = f"{self._secret}: listing"
        self._session.catch_up(what)
        return self._session.run(what, self._listed)

    def read(self, generation: Generation) -> bytes | None:
        what = f"{self._secret}: reading generation {generation}"
        self._session.catch_up(what)
        return self._session.run(what, lambda kv: self._read(kv, generation))

    def state(self) -> tuple[Generation, int]:
        """With native version 0 when the newest generation was agreed on and its data are gone."""
        what = f"{self._secret}: reading"
        self._session.catch_up(what)
        return self._session.run(what, self._state)

    def _check(self, client: hvac.Client) -> None:
        check_granted(client, self._secret.needs(destroying=self._destroys))
        self._secret.check_engine(client)

    def _prepare(self, client: hvac.Client, generation: Generation) -> None:
        metadata = self._secret.metadata(client)
        newest: _Version | None = None
        agreed_at = metadata.head + 1  # until one is agreed on, only the next one counts
        for version in self._versions(client, metadata):
            newest = newest or version
            if version.generation <= metadata.agreed:
                agreed_at = version.native
                break
        held = max(newest.generation if newest else 0, metadata.agreed)
        if held >= generation:
            raise GenerationConflict(f"{self._secret}: generation {held} is already there")
        self._secret.keep(client, metadata, agreed_at, self._in_grace)

    def _publish(self, client: hvac.Client, key: DeliveredKey, generation: Generation) -> int:
        metadata = self._secret.metadata(client)
        newest = next(self._versions(client, metadata), None)
        if newest is not None and newest.generation == generation:
            if newest.is_of(key):
                return newest.native  # of an earlier try
            raise GenerationConflict(f"{self._secret}: generation {generation} is another key")
        held = max(newest.generation if newest else 0, metadata.agreed)
        if held >= generation:  # agreed on, and destroyed since, counts
            raise GenerationConflict(f"{self._secret}: generation {held} is already there")
        native = self._secret.write(client, data_of(key, generation), metadata.head)
        written = parsed(native, self._secret.data(client, native))
        if written is None or written.generation != generation or not written.is_of(key):
            raise SinkUnavailable(f"{self._secret}: version {native} does not read back as written")
        return native

    def _agree(self, client: hvac.Client, generation: Generation) -> None:
        metadata = self._secret.metadata(client)
        if generation > metadata.agreed:
            native = self._find(client, metadata, generation).native
            self._secret.keep(client, metadata, native, self._in_grace)
        self._secret.agree(client, metadata, generation)

    def _destroy(self, client: hvac.Client, generation: Generation) -> None:
        metadata = self._secret.metadata(client)
        if generation >= metadata.agreed:
            raise SinkRejected(
                f"{self._secret}: generation {generation} is not destroyed, for none after it is"
                " agreed on"
            )
        for version in self._versions(client, metadata):
            if version.generation == generation:
                self._secret.destroy(client, version.native)

    def _listed(self, client: hvac.Client) -> tuple[SinkVersion, ...]:
        metadata = self._secret.metadata(client)
        ours = {each.native: each.generation for each in self._versions(client, metadata)}
        return tuple(
            SinkVersion(native=native, generation=ours.get(native, Generation(0)))
            for native in range(metadata.oldest, metadata.head + 1)
        )

    def _read(self, client: hvac.Client, generation: Generation) -> bytes | None:
        for version in self._versions(client, self._secret.metadata(client)):
            if version.generation == generation:
                return version.secret
        return None

    def _state(self, client: hvac.Client) -> tuple[Generation, int]:
        metadata = self._secret.metadata(client)
        newest = next(self._versions(client, metadata), None)
        if newest is None or newest.generation < metadata.agreed:
            return metadata.agreed, 0
        return newest.generation, newest.native

    def _find(self, client: hvac.Client, metadata: Metadata, generation: Generation) -> _Version:
        for version in self._versions(client, metadata):
            if version.generation == generation:
                return version
        raise SinkRejected(f"{self._secret}: generation {generation} is not here to agree on")

    def _versions(self, client: hvac.Client, metadata: Metadata) -> Iterator[_Version]:
        """The versions that a KME wrote and that still have data, newest first."""
        for native in sorted(metadata.kept, reverse=True):
            version = parsed(native, self._secret.data(client, native))
            if version is not None:
                yield version


def data_of(key: DeliveredKey, generation: Generation) -> dict[str, str]:
    return {
        "key": b64encode(key.secret).decode("ascii"),
        "key_id": key.key_id,
        "generation": str(generation),
        "provenance": str(key.provenance),
    }


def parsed(native: int, data: dict[str, Any]) -> _Version | None:
    """The version that ``data`` are, or None when a KME did not write them."""
    generation = number(data.get("generation"))
    if generation < 1 or not isinstance(data.get("key"), str):
        return None
    try:
        secret = b64decode(data["key"], validate=True)
    except (NotBase64, ValueError):
        return None
    return _Version(native, Generation(generation), KeyId(str(data.get("key_id"))), secret)
