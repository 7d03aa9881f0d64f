"""The folder of our socket, and the folders that killed processes left behind.

A folder in use is locked (flock), and the kernel lets go of the lock however its holder ends. So
whoever can lock a folder of ours may remove it.

A program made as one file also leaves behind what it was unpacked to. Such a folder's name is that
of every program made with PyInstaller, so ours carries a mark, and the mark is what is locked.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qkd_kms_adapters.openbao_plugin.process.greeting import CannotStart
from qkd_kms_adapters.openbao_plugin.process.one_file import UNPACKED_PREFIX

PREFIX = "keyferry-plugin-"
SOCKET = "s"
MARK = "keyferry-plugin.held"
LONGEST_PATH_BYTES = 107  # sun_path of unix(7) has 108, with a zero at the end
TRIES = 10
WHO_SAYS = "TMPDIR, or PLUGIN_UNIX_SOCKET_DIR, names"


@contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent`` for our socket, 0700 and held, removed at the end.

    Raises CannotStart where there can be none, or a socket in it would have too long a path.
    """
    folder, held = _made_and_held(parent)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(held)


def default_parent() -> Path:
    """Where temporary files go, by the same rule as the server's."""
    return Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108


def hold_unpacked(folder: Path) -> int:
    """Mark the folder as this program's; the descriptor holds it until the process ends."""
    mark = folder / MARK
    new = mark.with_suffix(".new")
    held = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    new.rename(mark)  # never there without being held
    return held


def sweep(parent: Path, unpacked: Path | None = None) -> int:
    """Remove what dead processes of this user left in ``parent``; returns how many folders.

    And beside ``unpacked``, if this program was made as one file.
    """
    removed = 0
    for folder in _own_folders(parent, PREFIX):
        removed += _removed_if_free(folder, folder, os.O_DIRECTORY)
    for folder in _own_folders(unpacked.parent, UNPACKED_PREFIX) if unpacked else ():
        removed += _removed_if_free(folder, folder / MARK, 0)
    return removed


def _made_and_held(parent: Path) -> tuple[Path, int]:
    for _ in range(TRIES):
        folder = parent / f"{PREFIX}{os.urandom(6).hex()}"
        taken = len(os.fsencode(folder / SOCKET))
        if taken > LONGEST_PATH_BYTES:
            raise CannotStart(
                f"{folder / SOCKET}: {taken} bytes, and a socket's path has {LONGEST_PATH_BYTES} "
                f"at most: {WHO_SAYS} a shorter place"
            )
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise CannotStart(
                f"{parent}: no folder for a socket can be made here ({error.strerror}): "
                f"{WHO_SAYS} another place"
            ) from error
        with suppress(OSError):  # a sweep came before the lock and took it for left behind
            return folder, _lock(folder, os.O_DIRECTORY)
    raise CannotStart(f"{parent}: {TRIES} folders made here for a socket could not be locked")


def _own_folders(parent: Path, prefix: str) -> list[Path]:
    """No link, and nobody else's."""
    with suppress(OSError), os.scandir(parent) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(prefix)
            and entry.is_dir(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
        ]
    return []


def _removed_if_free(folder: Path, held_by: Path, flags: int) -> bool:
    try:
        lock = _lock(held_by, flags)
    except OSError:  # held, or not marked, or another sweep was faster
        return False
    for each in folder.iterdir():  # what is held last: a sweep that is cut off is no loss
        if each != held_by:
            _remove(each)
    _remove(folder)
    os.close(lock)
    return True


def _lock(path: Path, flags: int) -> int:
    """A descriptor that holds ``path``. Raises OSError when it is held, is a link, or is gone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.lstat()):
            raise FileNotFoundError(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(place: Path) -> None:
    """Whole, whatever is in it; a link is not followed."""
    from shutil import rmtree  # here, as the greeting does not wait for it

    if place.is_dir() and not place.is_symlink():
        rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
