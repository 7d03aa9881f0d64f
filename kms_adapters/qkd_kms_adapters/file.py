"""A key in a file, for systemd credentials and any program that reads its key from one."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hmac import compare_digest
from pathlib import Path

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected
from qkd_core.types.ids import Generation
from qkd_core.types.keys import DeliveredKey
from qkd_core.types.refresh import RefreshPolicy, SinkVersion
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.generation_files import NONE, GenerationFiles, Record
from qkd_kms_adapters.own_folder import OwnFolder, our_errors
from qkd_kms_adapters.targets import Servers

MODES = ("0600", "0640", "0400", "0440")  # the group is the folder's, when that is setgid

FORMATS: Mapping[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "raw": (bytes, bytes),
    "base64": (lambda secret: b64encode(secret) + b"\n", b64decode),
    "hex": (
        lambda secret: secret.hex().encode() + b"\n",
        lambda text: bytes.fromhex(text.decode()),
    ),
}
"""How a key is written and read. A text ends with a newline; a raw file is the key alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTarget:
    """The file at ``path``.

    keep_previous  the generation before it stands beside it until it is retired
    """

    path: Path
    form: str = field(default="raw", compare=False)
    mode: int = field(default=0o600, compare=False)
    keep_previous: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not self.path.name or not self.path.is_absolute():
            raise ConfigError(f"path {str(self.path)!r}: must be the path of a file")

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "FileTarget":
        return cls(
            path=(folder / table.text("path")).absolute(),
            form=table.choice("format", list(FORMATS), "raw"),
            mode=int(table.choice("mode", MODES, "0600"), 8),
            keep_previous=table.flag("keep_previous", False),
        )

    @property
    def server(self) -> str:
        return f"file {self.path.parent}"

    @property
    def places(self) -> tuple[str, ...]:
        return (str(self.path),)

    def check(self, policy: RefreshPolicy) -> None:
        """Any key fits a file."""

    def sink(self, policy: RefreshPolicy, servers: Servers) -> "FileSink":
        return FileSink(self)


class FileSink:
    """Implements ReadableSink. A file has no versions of its own: native ones are generations."""

    def __init__(self, target: FileTarget) -> None:
        self._target = target
        self._write_key, _ = FORMATS[target.form]

    def __repr__(self) -> str:
        return f"FileSink({str(self._target.path)!r})"

    def prepare(self, key: DeliveredKey, generation: Generation) -> None:
        with self._writing(f"preparing generation {generation}", make=True) as files:
            newest = files.newest()
            if newest >= generation:
                raise GenerationConflict(f"{files.path}: generation {newest} is already there")
            files.refuse_foreign()
            files.hold(generation, self._write_key(key.secret), self._record_of(key))

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        with self._writing(f"key {key.key_id} as generation {generation}", make=True) as files:
            newest = files.newest()
            if newest > generation:
                raise GenerationConflict(f"{files.path}: generation {newest} is already there")
            if newest == generation and not self._is_held(files, generation, key):
                raise GenerationConflict(f"{files.path}: generation {generation} is another key")
            files.refuse_foreign()
            if newest < generation:
                files.hold(generation, self._write_key(key.secret), self._record_of(key))
                if self._target.keep_previous:
                    files.keep_previous(newest)
            files.put(generation)
        return generation

    def show(self, generation: Generation) -> None:
        """Publish what was prepared."""
        with self._writing(f"publishing generation {generation}", make=False) as files:
            if self._target.keep_previous:
                files.keep_previous(files.newest())
            files.put(generation)

    def agree(self, generation: Generation) -> None:
        with self._writing(f"agreeing on generation {generation}", make=False) as files:
            if generation not in files.published():
                raise SinkRejected(f"{files.path}: generation {generation} is not here to agree on")
            files.note(agreed=max(files.noted().agreed, generation))

    def abandon(self, generation: Generation) -> None:
        """Erase a generation that never became the newest."""
        with self._writing(f"giving up generation {generation}", make=False) as files:
            if files.newest() < generation:
                files.erase(lambda each: each == generation)

    def retire(self, generation: Generation) -> None:
        """Erase it and those before it."""
        with self._writing(f"retiring generation {generation}", make=False) as files:
            agreed = files.noted().agreed
            if generation >= agreed:
                raise SinkRejected(
                    f"{files.path}: generation {generation} is in use, {agreed} is agreed"
                )
            files.drop_previous(generation)
            files.erase(lambda each: each <= generation)

    def state(self) -> tuple[Generation, int]:
        with self._reading("reading") as files:
            newest = files.newest()
        return newest, newest

    def versions(self) -> tuple[SinkVersion, ...]:
        """The newest one is not listed while its bytes are not in the file; other bytes in it are
        the last version, of generation 0."""
        with self._reading("listing") as files:
            newest, shown = files.newest(), files.shown()
            standing = [each for each in files.published() if each < newest]
            if shown is not None and files.generation_of(shown) == newest:
                standing.append(newest)
            foreign = shown is not None and files.generation_of(shown) is None
        versions = [SinkVersion(native=each, generation=each) for each in standing]
        if foreign:
            versions.append(SinkVersion(native=newest + 1, generation=NONE))
        return tuple(versions)

    def read(self, generation: Generation) -> bytes | None:
        with self._reading(f"reading generation {generation}") as files:
            if generation not in files.published():
                return None
            return self._parsed(files, generation)

    def holder(self, secret: bytes) -> Generation | None:
        """The generation, also one that is only prepared, that has these bytes."""
        with self._reading("reading") as files:
            return files.generation_of(self._write_key(secret))

    def _is_held(self, files: GenerationFiles, generation: Generation, key: DeliveredKey) -> bool:
        same = compare_digest(self._parsed(files, generation), key.secret)
        return same and files.record(generation).get("key_id") == key.key_id

    def _parsed(self, files: GenerationFiles, generation: Generation) -> bytes:
        """Written in another form, perhaps, before the site file was changed."""
        _, read = FORMATS.get(str(files.record(generation).get("format")), FORMATS["raw"])
        try:
            return read(files.key(generation) or b"")
        except ValueError:
            raise SinkRejected(f"{files.path}: generation {generation} is damaged") from None

    def _record_of(self, key: DeliveredKey) -> Record:
        """What is written beside a key: nothing that follows from its bytes."""
        return {
            "key_id": key.key_id,
            "provenance": str(key.provenance),
            "format": self._target.form,
        }

    @contextmanager
    def _writing(self, what: str, *, make: bool) -> Iterator[GenerationFiles]:
        with self._reading(what, make=make) as files:
            files.lock()
            yield files

    @contextmanager
    def _reading(self, what: str, *, make: bool = False) -> Iterator[GenerationFiles]:
        path = self._target.path
        with (
            our_errors(f"{path}: {what}"),
            OwnFolder.opened(path.parent) as parent,
            parent.inner(f".{path.name}.generations", make=make) as inner,
        ):
            yield GenerationFiles(path, self._target.mode, parent, inner)
