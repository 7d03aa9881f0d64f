"""The plugin as one file, so that one checksum covers all of it; built once, then kept.

What is kept lies under the name DIGEST.SHA256: the digest of all that went in, and the checksum
of what came out. A file that does not match its own name is built anew. That is for files that
were cut short or mixed up; whoever may write there is the user who installs plugins.
"""

import hashlib
import os
import platform
import re
import ssl
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import qkd_client
import qkd_kms_adapters
from keyferry.plugin import freezing
from keyferry.plugin.trial import why_not_started
from keyferry.private_files import private_folder, write_private, written_at
from qkd_core.errors import ConfigError

PLUGIN = Path(qkd_kms_adapters.__file__).parent / "openbao_plugin"
CLIENT = Path(qkd_client.__file__).parent
LIBRARIES = (
    *("cffi", "cryptography", "grpclib", "h2", "hpack", "hyperframe", "multidict", "protobuf"),
    *("typing_extensions", "altgraph", "pyinstaller", "pyinstaller-hooks-contrib"),
)
"""What goes into the file, and what makes it; a test compares."""

KEPT = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{64}")
MOST_KEPT = 4


@dataclass(frozen=True, slots=True)
class Built:
    """The program: where it is kept, and its bytes."""

    file: Path
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def kept_in() -> Path:
    """Where built files are kept: XDG_CACHE_HOME, else ~/.cache, and our folder below."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return cache / "keyferry" / "plugin"


def build(tell: Callable[[str], None] = lambda _: None, folder: Path | None = None) -> Built:
    """The program, as kept in ``folder`` or built now; ``tell`` hears how it goes.

    ``folder``: `kept_in`, unless it is given.
    Raises ConfigError when it cannot be kept or a tool is missing, BuildFailed.
    """
    folder = folder or kept_in()
    _own(folder)
    digest = inputs_digest()
    for kept in folder.glob(f"{digest}.*"):
        built = Built(kept, kept.read_bytes())
        if kept.name == f"{digest}.{built.sha256}":
            return built
        tell(f"{kept} does not match its name, building anew")
        kept.unlink(missing_ok=True)
    content = _built(folder, tell)
    _make_room(folder)
    file = folder / f"{digest}.{hashlib.sha256(content).hexdigest()}"
    write_private(file, content, mode=0o700)
    return Built(file, content)


def inputs_digest() -> str:
    """Changes when the same command would build something else."""
    sha = hashlib.sha256()
    for part in _inputs():
        sha.update(len(part).to_bytes(8) + part)
    return sha.hexdigest()[:32]


def sources() -> list[Path]:
    """Our own modules that go into the file, with what says how."""
    found = [*PLUGIN.rglob("*.py"), *CLIENT.rglob("*.py"), PLUGIN.parent / "__init__.py"]
    return [*sorted(found), Path(freezing.__file__)]


def _inputs() -> Iterator[bytes]:
    for path in sources():
        yield str(path).encode()  # tracebacks name it
        yield path.read_bytes()
    for library in LIBRARIES:
        yield f"{library} {_version(library)}".encode()
    yield f"{sys.version} {sys.base_prefix} {platform.platform()}".encode()
    yield f"{platform.libc_ver()} {ssl.OPENSSL_VERSION}".encode()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""  # the build will say so, if it matters


def _built(folder: Path, tell: Callable[[str], None]) -> bytes:
    with (
        written_at(folder),
        tempfile.TemporaryDirectory(prefix="build-", dir=folder) as temporary,
    ):
        program = freezing.freeze(PLUGIN / "__main__.py", Path(temporary), tell)
        tell("starting it once")
        _check_starts(program)
        return program.read_bytes()


def _make_room(folder: Path) -> None:
    """Keep the newest, as other versions may be in use beside this one."""
    kept = [file for file in folder.iterdir() if KEPT.fullmatch(file.name)]
    kept.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    for old in kept[MOST_KEPT - 1 :]:
        old.unlink(missing_ok=True)


def _check_starts(program: Path) -> None:
    if words := why_not_started([str(program)], program.parent):
        raise freezing.BuildFailed(f"the program was built, and does not start: {words}")


def _own(folder: Path) -> None:
    """A folder of another user's could make that user's program the server's plugin."""
    for each in (folder.parent, folder):
        private_folder(each)
        seen = each.stat()
        if seen.st_uid != os.geteuid() or seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"{each}: others may write there, and a built plugin is kept there: set"
                " XDG_CACHE_HOME to a folder of this user's own"
            )
