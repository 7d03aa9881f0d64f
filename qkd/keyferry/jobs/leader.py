"""One leader among the jobs processes of a site: who holds the lock on a file beside the store."""

import fcntl
import os
from pathlib import Path
from threading import Event

RETRY_S = 0.5


class LeaderLock:
    """An advisory lock that the kernel gives back when its holder ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def wait(self, stop: Event) -> bool:
        """Stand by until the lock is ours; False when ``stop`` came first."""
        while not self.take():
            if stop.wait(RETRY_S):
                return False
        return True

    def take(self) -> bool:
        """Whether the lock is ours now."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
