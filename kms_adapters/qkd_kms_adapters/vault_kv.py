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
from typing import Any

import hvac
from hvac import exceptions as vault

from qkd_core.errors import GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation, KeyId
from qkd_core.types.keys import DeliveredKey
from qkd_kms_adapters.vault_session import VaultSession

log = logging.getLogger(__name__)

MAX_RACES = 5  # writes lost against others in a row before the caller is asked to come back later
NEEDED = {"data": {"create", "update", "read"}, "metadata": {"read", "update"}}


class _Overtaken(Exception):
    """The check-and-set failed: somebody wrote since the version was observed."""


@dataclass(frozen=True, slots=True)
class _Version:
    """One version that a KME wrote."""

    native: int
    generation: Generation
    key_id: KeyId
    secret: bytes = field(repr=False)

    def is_of(self, key: DeliveredKey) -> bool:
        return compare_digest(self.secret, key.secret) and self.key_id == key.key_id


class VaultKvSink:
    """Implements KeySink on the secret ``path`` of the KV version 2 engine at ``mount``."""

    def __init__(self, session: VaultSession, mount: str, path: str) -> None:
        self._session = session
        self._mount, self._path = mount.strip("/"), path.strip("/")
        self._where = f"KV {self._mount}/{self._path}"

    def prepare(self, generation: Generation) -> None:
        what = f"{self._where}: preparing generation {generation}"
        self._session.run(what, self._check_permissions)
        newest, _ = self.state()
        if newest >= generation:
            raise GenerationConflict(f"{what}: generation {newest} is already there")

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        what = f"{self._where}: key {key.key_id} as generation {generation}"
        # An earlier try may have been written though its reply was lost: look, then write.
        self._session.catch_up(what)
        for _ in range(MAX_RACES):
            try:
                return self._session.run(what, lambda kv: self._publish(kv, key, generation))
            except _Overtaken:
                log.warning("%s: another writer came first, looking again", what)
        raise SinkUnavailable(f"{what}: {MAX_RACES} writes in a row came after another writer")

    def agree(self, generation: Generation) -> None:
        what = f"{self._where}: agreeing on generation {generation}"
        self._session.catch_up(what)
        self._session.run(what, lambda kv: self._agree(kv, generation))

    def state(self) -> tuple[Generation, int]:
        what = f"{self._where}: reading"
        self._session.catch_up(what)
        newest = self._session.run(what, lambda kv: next(self._versions(kv, self._head(kv)), None))
        return (newest.generation, newest.native) if newest else (Generation(0), 0)

    def _check_permissions(self, client: hvac.Client) -> None:
        """Raise SinkRejected unless all that a run will do is allowed, on a KV version 2 mount."""
        wanted = {f"{self._mount}/{kind}/{self._path}": NEEDED[kind] for kind in NEEDED}
        granted = client.sys.get_capabilities(paths=list(wanted))["data"]
        for path, needed in wanted.items():
            missing = needed - set(granted[path])
            if missing and "root" not in granted[path]:
                raise SinkRejected(f"{path}: the login lacks {', '.join(sorted(missing))}")
        mount = client.adapter.get(f"/v1/sys/internal/ui/mounts/{self._mount}")["data"]
        if mount["type"] != "kv" or (mount["options"] or {}).get("version") != "2":
            raise SinkRejected(f"{self._mount}: not a KV version 2 secrets engine")

    def _publish(self, client: hvac.Client, key: DeliveredKey, generation: Generation) -> int:
        head = self._head(client)
        for version in self._versions(client, head):
            if version.generation < generation:
                break
            if version.generation == generation:
                if version.is_of(key):
                    return version.native  # of an earlier try
                raise GenerationConflict(f"{self._where}: generation {generation} is another key")
            raise GenerationConflict(f"{self._where}: {version.generation} is already there")
        native = self._write(client, key, generation, head)
        written = self._version(client, native)
        if written is None or written.generation != generation or not written.is_of(key):
            raise SinkUnavailable(f"{self._where}: version {native} does not read back as written")
        return native

    def _write(
        self, client: hvac.Client, key: DeliveredKey, generation: Generation, head: int
    ) -> int:
        data = {
            "key": b64encode(key.secret).decode("ascii"),
            "key_id": key.key_id,
            "generation": str(generation),
            "provenance": str(key.provenance),
        }
        try:
            answer = client.secrets.kv.v2.create_or_update_secret(
                self._path, data, cas=head, mount_point=self._mount
            )
        except vault.InvalidRequest as error:
            if self._head(client) == head:
                raise  # refused for another reason than the check-and-set
            raise _Overtaken from error
        return int(answer["data"]["version"])

    def _agree(self, client: hvac.Client, generation: Generation) -> None:
        metadata = self._metadata(client)
        head = int(metadata["current_version"])
        if generation not in {version.generation for version in self._versions(client, head)}:
            raise SinkRejected(f"{self._where}: generation {generation} is not here to agree on")
        custom = dict(metadata.get("custom_metadata") or {})  # others may keep notes there, too
        if number(custom.get("agreed_generation")) < generation:
            custom["agreed_generation"] = str(generation)
            client.secrets.kv.v2.update_metadata(
                self._path, mount_point=self._mount, custom_metadata=custom
            )

    def _head(self, client: hvac.Client) -> int:
        """The newest native version, whoever wrote it; 0 when there is no such secret."""
        try:
            return int(self._metadata(client)["current_version"])
        except vault.InvalidPath as error:
            if error.errors:  # no such mount; for a secret that does not exist the list is empty
                raise
            return 0

    def _metadata(self, client: hvac.Client) -> dict[str, Any]:
        answer = client.secrets.kv.v2.read_secret_metadata(self._path, mount_point=self._mount)
        return dict(answer["data"])

    def _versions(self, client: hvac.Client, head: int) -> Iterator[_Version]:
        """The versions that a KME wrote, newest first, as far back as the server kept them."""
        oldest = int(self._metadata(client)["oldest_version"]) if head else 1
        for native in range(head, max(oldest, 1) - 1, -1):
            version = self._version(client, native)
            if version is not None:
                yield version

    def _version(self, client: hvac.Client, native: int) -> _Version | None:
        """None for a version that is deleted, or not a KME's."""
        try:
            answer = client.secrets.kv.v2.read_secret_version(
                self._path, native, mount_point=self._mount, raise_on_deleted_version=True
            )
        except vault.InvalidPath:
            return None
        return parsed(native, answer["data"]["data"] or {})


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


def number(text: object) -> int:
    """``text`` as a positive decimal number, 0 when it is none."""
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else 0
