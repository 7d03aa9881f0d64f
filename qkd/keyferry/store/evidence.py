"""What this machine remembers of a store's newest records, in memory, for as long as it runs.

After each commit, and before anyone is answered, a process writes the head of its audit chain into
a file of a tmpfs. The file outlives a killed process and no loss of power, and it does not go back
when the store is put back from a copy. So a store that holds every record named there, on a
machine that has run since the site was opened, is exactly as its processes left it.
"""

import fcntl
import logging
import os
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path

from keyferry.audit.chain import Chain

log = logging.getLogger(__name__)

BASE = Path("/dev/shm")  # noqa: S108  memory, not a disk: that is the point
HEAD, OPEN = ".head", "open"
STORE = "store"  # says to people whose evidence this is
Noted = tuple[int, str]  # number and hash of a chain's newest record


def folder_for(store: Path, log_id: str, base: Path = BASE) -> Path | None:
    """A private folder in memory for this store's evidence; None where there is no tmpfs.

    It belongs to the owner of the store, whoever runs this, so that all see the same.
    """
    if not _is_tmpfs(base):
        log.warning("%s is no tmpfs: after a kill this site starts as after a power cut", base)
        return None
    owner = store.stat().st_uid
    folder = base / f"keyferry-{owner}"
    try:
        for place in (folder, folder / log_id):
            place.mkdir(mode=0o700, exist_ok=True)
            if os.geteuid() == 0:
                os.chown(place, owner, -1, follow_symlinks=False)
            found = place.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
                log.warning("%s is not this service's own: no evidence is kept there", place)
                return None
        (folder / log_id / STORE).write_text(f"{store.resolve()}\n", encoding="utf-8")
    except OSError as error:
        log.warning("%s cannot be used for evidence: %s", folder, error.strerror)
        return None
    return folder / log_id


def _is_tmpfs(base: Path) -> bool:
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    fields = [line.split() for line in mounts]
    return any(line[1] == str(base) and line[2] == "tmpfs" for line in fields)


def contradiction(connection: sqlite3.Connection, noted: Mapping[str, Noted]) -> str | None:
    """A record that was written on this machine and is not in the store; None when all are."""
    for chain, (seq, digest) in noted.items():
        row = connection.execute(
            "SELECT hash FROM audit WHERE chain = ? AND seq = ?", (chain, seq)
        ).fetchone()
        if row is None or row[0] != digest:
            return f"record {seq} of {chain} was written here and is not in the store"
    return None


class Evidence:
    """The evidence of one store, as one process reads and adds to it. ``folder``: None for none."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: int | None = None

    def noted(self) -> dict[str, Noted]:
        """The newest record of each chain, as the processes of this machine noted it.

        To be read before the store is: a record that is noted was committed, so that whoever looks
        later finds it.
        """
        found: dict[str, Noted] = {}
        for file in sorted(self._folder.glob(f"*{HEAD}")) if self._folder else ():
            try:
                seq, digest = file.read_text(encoding="ascii").split()
            except (FileNotFoundError, ValueError):  # gone just now, or nothing in it yet
                continue
            found[file.name.removesuffix(HEAD)] = int(seq), digest
        return found

    def follow(self, chain: Chain) -> None:
        """Keep the head of this process's chain from now on.

        Files of processes that have ended, which the store agrees with, are not needed any more.
        """
        if self._folder is None:
            return
        place = self._folder / f"{chain.name}{HEAD}"
        making = place.with_suffix(".making")  # nobody takes it for the file of an ended process
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(making, flags, 0o600)
        if os.geteuid() == 0:
            os.fchown(self._file, self._folder.stat().st_uid, -1)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.note(chain)
        making.replace(place)
        for other in self._folder.glob(f"*{HEAD}"):
            if other != place:
                _remove_unless_followed(other)

    def note(self, chain: Chain) -> None:
        """Put down the newest committed record. Never raises: without it, nothing is proved."""
        if self._file is None:
            return
        line = f"{chain.head.seq:020d} {chain.head.hash}\n".encode("ascii")
        try:
            os.pwrite(self._file, line, 0)
        except OSError as error:
            log.error("no evidence is kept any more: %s", error.strerror)
            self.forget_open()
            self.close()

    @property
    def was_open(self) -> bool:
        """Whether the site was opened on this machine since that was started."""
        return self._folder is not None and (self._folder / OPEN).exists()

    def mark_open(self) -> None:
        if self._folder is not None and self._file is not None:
            (self._folder / OPEN).touch(mode=0o600)

    def forget_open(self) -> None:
        if self._folder is not None:
            (self._folder / OPEN).unlink(missing_ok=True)

    def close(self) -> None:
        """The file stays: it is what the next process is compared with."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _remove_unless_followed(place: Path) -> None:
    try:
        handle = os.open(place, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # another process was faster, or it is not ours
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        place.unlink(missing_ok=True)
    except OSError:  # its process is alive
        pass
    finally:
        os.close(handle)
