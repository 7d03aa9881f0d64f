"""A folder in which nobody else makes, replaces or links files, and files put there whole.

Every name is taken relative to the open folder and never followed when it is a symbolic link.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from qkd_core.errors import SinkRejected, SinkUnavailable

PARTIAL = ".partial"  # ends the name of a file that is not yet whole
LONGEST = 1 << 18  # bytes; more is no key and no record of ours
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
FOR_GOOD = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.EXDEV,
    }
)
"""People have to act on these; the others, as a full disk or one not mounted yet, may pass."""


@contextmanager
def our_errors(what: str) -> Iterator[None]:
    """Turn an OSError into SinkUnavailable or SinkRejected, with its cause in one line."""
    try:
        yield
    except OSError as error:
        told = f"{what}: {error.strerror or type(error).__name__}"
        if error.errno in FOR_GOOD:
            raise SinkRejected(told) from error
        raise SinkUnavailable(told) from error


class OwnFolder:
    """An open folder that belongs to this user or to root, and that only they write in."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._fd = path, descriptor

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator["OwnFolder"]:
        """Raises SinkRejected when others may write in it, and what opening it raises."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        with closed_after(descriptor):
            yield cls._checked(path, descriptor)

    @contextmanager
    def inner(self, name: str, *, make: bool) -> Iterator["OwnFolder | None"]:
        """A folder in this one; None when there is none and none is to be made."""
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self._fd)
                self.sync()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            descriptor = os.open(name, flags, dir_fd=self._fd)
        except FileNotFoundError:
            if make:
                raise
            yield None
            return
        with closed_after(descriptor):
            yield self._checked(self.path / name, descriptor)

    def lock(self) -> None:
        """Until it is closed; raises SinkUnavailable while another process has it."""
        try:
            flock(self._fd, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise SinkUnavailable(f"{self.path}: another process writes there") from error

    def names(self) -> tuple[str, ...]:
        return tuple(os.listdir(self._fd))

    def read(self, name: str, mode: int = 0o600) -> bytes | None:
        """None when there is no such file.

        Raises SinkRejected for a link, a file of somebody else, or one that ``mode`` does not
        cover.
        """
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise SinkRejected(f"{self.path / name}: is a symbolic link") from error
            raise
        with closed_after(descriptor):
            found = os.fstat(descriptor)
            path, found_mode = self.path / name, stat.S_IMODE(found.st_mode)
            if not stat.S_ISREG(found.st_mode):
                raise SinkRejected(f"{path}: not a file")
            if found.st_uid not in (os.geteuid(), 0):
                raise SinkRejected(f"{path}: belongs to user {found.st_uid}")
            if found_mode & ~mode:
                raise SinkRejected(f"{path}: mode {found_mode:04o}, at most {mode:04o} is allowed")
            return _all_of(descriptor, path)

    def write(self, name: str, content: bytes, mode: int = 0o600) -> None:
        """Durably, and whole or not at all."""
        partial = name + PARTIAL
        self._drop(partial)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(partial, flags, 0o600, dir_fd=self._fd)
        try:
            with closed_after(descriptor):
                left = memoryview(content)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
        except OSError:
            with suppress(OSError):  # what is told is why it could not be written
                self._drop(partial)
            raise
        os.replace(partial, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        self.sync()

    def link(self, source: "OwnFolder", file: str, name: str) -> None:
        """Let ``name`` be ``file`` of ``source`` from one moment to the next, durably."""
        partial = name + PARTIAL
        self._drop(partial)
        os.link(file, partial, src_dir_fd=source._fd, dst_dir_fd=self._fd, follow_symlinks=False)
        os.replace(partial, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        self._drop(partial)  # renaming a file to another name of its own leaves both
        self.sync()

    def remove(self, *names: str) -> None:
        """Durably; those that are not there are passed over."""
        if any([self._drop(name) for name in names]):
            self.sync()

    def sync(self) -> None:
        os.fsync(self._fd)

    def _drop(self, name: str) -> bool:
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        return True

    @classmethod
    def _checked(cls, path: Path, descriptor: int) -> "OwnFolder":
        found = os.fstat(descriptor)
        if found.st_uid not in (os.geteuid(), 0):
            raise SinkRejected(f"{path}: the folder belongs to user {found.st_uid}")
        if found.st_mode & OTHERS_WRITE:
            mode = stat.S_IMODE(found.st_mode)
            raise SinkRejected(f"{path}: mode {mode:04o}, others may write in this folder")
        return cls(path, descriptor)


@contextmanager
def closed_after(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _all_of(descriptor: int, path: Path) -> bytes:
    parts: list[bytes] = []
    while part := os.read(descriptor, LONGEST):
        parts.append(part)
        if sum(map(len, parts)) > LONGEST:
            raise SinkRejected(f"{path}: more than {LONGEST} bytes, no key of ours")
    return b"".join(parts)
