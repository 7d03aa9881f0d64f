"""One secret of a KV version 2 engine: its versions, and what its metadata say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import hvac
from hvac import exceptions as vault

from qkd_core.errors import ConfigError, SinkRejected
from qkd_core.types.ids import Generation

ENGINE_KEEPS = 10  # versions, where neither the engine nor the secret has a number of its own
MOST_DIGITS = 15  # of a generation or version: far from what a database column takes
ROOM = 8  # versions that others may write between two agreed generations


class Overtaken(Exception):
    """The check-and-set failed: somebody wrote since the version was observed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What the engine tells of a secret; all zero for one that does not exist.

    head     the newest native version, whoever wrote it
    oldest   the oldest that the engine kept
    kept     of those, the ones that were not destroyed; they may be deleted
    limit    how many the secret asks the engine to keep; 0: as many as the engine does for all
    custom   notes of anybody, ours among them
    """

    head: int = 0
    oldest: int = 1
    kept: frozenset[int] = frozenset()
    limit: int = 0
    custom: Mapping[str, str] = field(default_factory=dict)

    @property
    def agreed(self) -> Generation:
        return Generation(number(self.custom.get("agreed_generation")))


class VersionedSecret:
    """The secret ``path`` of the engine at ``mount``. Raises what the client library raises."""

    def __init__(self, mount: str, path: str) -> None:
        for name, value in (("mount", mount), ("path", path)):
            if not is_path(value):
                raise ConfigError(f"Vault {name} {value!r}: names joined by single slashes")
        self._mount, self._path = mount.strip("/"), path.strip("/")

    def __str__(self) -> str:
        return f"KV {self._mount}/{self._path}"

    def needs(self, *, destroying: bool = False) -> dict[str, set[str]]:
        """What a login must be allowed, by path."""
        needed = {
            f"{self._mount}/data/{self._path}": {"create", "update", "read"},
            f"{self._mount}/metadata/{self._path}": {"read", "update"},
        }
        if destroying:
            needed[f"{self._mount}/destroy/{self._path}"] = {"update"}
        return needed

    def check_engine(self, client: hvac.Client) -> None:
        """Raises SinkRejected unless the engine is KV version 2."""
        mount = client.adapter.get(f"/v1/sys/internal/ui/mounts/{self._mount}")["data"]
        if mount["type"] != "kv" or (mount["options"] or {}).get("version") != "2":
            raise SinkRejected(f"{self._mount}: not a KV version 2 secrets engine")

    def metadata(self, client: hvac.Client) -> Metadata:
        try:
            answer = client.secrets.kv.v2.read_secret_metadata(self._path, mount_point=self._mount)
        except vault.InvalidPath as error:
            if error.errors:  # no such mount; for a secret that does not exist the list is empty
                raise
            return Metadata()
        data = answer["data"]
        return Metadata(
            head=int(data["current_version"]),
            oldest=max(1, int(data["oldest_version"])),
            kept=frozenset(
                int(native)
                for native, version in data["versions"].items()
                if not version["destroyed"]
            ),
            limit=int(data["max_versions"]),
            custom=dict(data["custom_metadata"] or {}),
        )

    def data(self, client: hvac.Client, native: int) -> dict[str, Any]:
        """Of one version; empty when it is gone."""
        try:
            answer = client.secrets.kv.v2.read_secret_version(
                self._path, native, mount_point=self._mount, raise_on_deleted_version=True
            )
        except vault.InvalidPath:
            return {}
        return dict(answer["data"]["data"] or {})

    def write(self, client: hvac.Client, data: Mapping[str, str], head: int) -> int:
        """The native version that ``data`` become. Raises Overtaken unless ``head`` is newest."""
        try:
            answer = client.secrets.kv.v2.create_or_update_secret(
                self._path, dict(data), cas=head, mount_point=self._mount
            )
        except vault.InvalidRequest as error:
            if self.metadata(client).head == head:
                raise  # refused for another reason than the check-and-set
            raise Overtaken from error
        return int(answer["data"]["version"])

    def agree(self, client: hvac.Client, metadata: Metadata, generation: Generation) -> None:
        """Note that ``generation`` is agreed, unless a newer one is; others' notes are kept."""
        if metadata.agreed < generation:
            custom = dict(metadata.custom) | {"agreed_generation": str(generation)}
            client.secrets.kv.v2.update_metadata(
                self._path, mount_point=self._mount, custom_metadata=custom
            )

    def keep(self, client: hvac.Client, metadata: Metadata, oldest: int, in_grace: int) -> None:
        """See that the version ``oldest``, and ``in_grace`` before it, outlive the next one and
        `ROOM` more. Never less.

        The engine keeps the greater of its own number and the secret's. When the login may not
        read the engine's, the secret gets one of its own, as soon as it exists.
        """
        wanted = metadata.head + 1 - oldest + 1 + in_grace + ROOM
        if not metadata.head or metadata.limit >= wanted:
            return
        if self._engine_limit(client) < wanted:
            client.secrets.kv.v2.update_metadata(
                self._path, mount_point=self._mount, max_versions=wanted
            )

    def _engine_limit(self, client: hvac.Client) -> int:
        path = f"{self._mount}/config"
        if not {"read", "root"} & granted(client, [path])[path]:
            return 0
        answer = client.secrets.kv.v2.read_configuration(mount_point=self._mount)
        return int(answer["data"]["max_versions"]) or ENGINE_KEEPS

    def destroy(self, client: hvac.Client, native: int) -> None:
        """Erase the data of one version for good. Idempotent."""
        client.secrets.kv.v2.destroy_secret_versions(
            self._path, versions=[native], mount_point=self._mount
        )


def granted(client: hvac.Client, paths: list[str]) -> dict[str, set[str]]:
    """What the client may do there, by path."""
    answer = client.sys.get_capabilities(paths=paths)["data"]
    return {path: set(answer[path]) for path in paths}


def check_granted(client: hvac.Client, needed: Mapping[str, set[str]]) -> None:
    """Raises SinkRejected with the first path where the login may not do what is needed."""
    allowed = granted(client, list(needed))
    for path, wanted in needed.items():
        missing = wanted - allowed[path]
        if missing and "root" not in allowed[path]:
            raise SinkRejected(f"{path}: the login lacks {', '.join(sorted(missing))}")


def is_path(text: str) -> bool:
    """Whether it is names joined by single slashes."""
    parts = text.strip("/").split("/")
    return all(part and part not in (".", "..") and part.isprintable() for part in parts)


def number(text: object) -> int:
    """``text`` as a positive decimal number, 0 when it is none or no KME ever counts so far."""
    if not isinstance(text, str) or len(text) > MOST_DIGITS:
        return 0
    return int(text) if text.isascii() and text.isdigit() else 0
