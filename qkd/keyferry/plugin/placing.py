"""Putting a plugin's file into the plugin folder of a server."""

import hashlib
import os
import re
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from keyferry.plugin.launcher import launcher
from keyferry.private_files import sync_folder, written_at
from qkd_core.errors import ConfigError
from qkd_kms_adapters.openbao_plugin.version import VERSION

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MODE = 0o755
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Placed:
    """``already``: it was there, and was left as it is."""

    file: Path
    sha256: str
    n_bytes: int
    already: bool
    version: str = VERSION


def check_name(name: str) -> None:
    """Raises ConfigError unless a plugin, and a file, can be called so."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name}: must be up to 64 letters, digits, dots, hyphens and underscores,"
            " a letter or digit first"
        )


def check_folder(folder: Path) -> None:
    """Raises ConfigError for what a server would not start plugins from, or should not."""
    if not folder.is_dir():
        raise ConfigError(f"--plugin-dir {folder}: no such folder; it is the server's own")
    mode = folder.stat().st_mode
    if mode & OTHERS_WRITE:
        raise ConfigError(
            f"--plugin-dir {folder}: mode {stat.S_IMODE(mode):04o}, others than its owner may put"
            " programs there: chmod go-w"
        )
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise ConfigError(f"--plugin-dir {folder}: mounted noexec, so no plugin starts there")


def file_name(name: str, *, unpacked: bool) -> str:
    """What a plugin's file is called: each version has its own, so that mounts can go on."""
    return f"{name}-{VERSION}-unpacked" if unpacked else f"{name}-{VERSION}"


def place_launcher(folder: Path, name: str) -> Placed:
    """The launcher of the plugin ``name``, for a server that is told its checksum at each start.

    Raises ConfigError.
    """
    return place(launcher(), folder, file_name(name, unpacked=True), replace=True)


def place(content: bytes, folder: Path, called: str, *, replace: bool) -> Placed:
    """Put ``content`` into ``folder`` under the name ``called``, for all to start, or not at all.

    A file in its place stays as it is when it is the same, and is refused when it is not, unless
    ``replace``: a server has its checksum, and would not start a plugin that changed.
    Raises ConfigError.
    """
    check_folder(folder)
    file = folder.resolve() / called  # a server refuses what it reaches through a link
    sha256 = hashlib.sha256(content).hexdigest()
    if _is_there(file, content, replace):
        return Placed(file, sha256, len(content), already=True)
    with written_at(file):
        _write(file, content)
    return Placed(file, sha256, len(content), already=False)


def _is_there(file: Path, content: bytes, replace: bool) -> bool:
    try:
        seen = file.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(seen.st_mode):  # a server follows no link out of its folder
        raise ConfigError(f"{file}: is there, and is no regular file")
    try:
        found = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    if found == content:
        return stat.S_IMODE(seen.st_mode) == MODE
    if not replace:
        raise ConfigError(
            f"{file}: is there with other contents (sha256 {hashlib.sha256(found).hexdigest()}),"
            " and a server that knows it would not start this one: give --replace, and register"
            " it anew, or another --name"
        )
    return False


def _write(file: Path, content: bytes) -> None:
    descriptor, partial = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            os.fchmod(descriptor, MODE)  # whatever the umask: the server is another user
            out.flush()
            os.fsync(descriptor)
        Path(partial).replace(file)
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise
    sync_folder(file.parent)
