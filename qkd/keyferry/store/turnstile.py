"""The order in which the processes of a site write to one SQLite file.

SQLite lets those who wait for its lock look again after longer and longer pauses, up to 100 ms, and
whoever just let go may take it again at once: beside a busy API another process waited for
seconds. Here a writer first passes a turnstile, in which one at a time waits for the lock; the
writer before it has to queue for the turnstile again, so everybody gets his turn. Both are file
locks, which end with their process. SQLite's own lock is still taken, and is then free.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_AGAIN_S = 0.0005
PLACES = "-turn", "-write"  # names of the lock files, after the store's


class Turnstile:
    """For one thread of this process at a time."""

    def __init__(self, store: Path, patience_s: float) -> None:
        """Raises OSError when the lock files cannot be made."""
        self._store, self._patience_s = store, patience_s
        self._open: list[int] = []
        try:
            for place in PLACES:
                path = store.with_name(store.name + place)
                self._open.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            self.close()
            raise

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Inside, nobody else writes. Raises TimeoutError when that takes too long."""
        turn, write = self._open
        deadline = time.monotonic() + self._patience_s
        self._lock(turn, deadline)
        try:
            self._lock(write, deadline)
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(write, fcntl.LOCK_UN)

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def _lock(self, handle: int, deadline: float) -> None:
        """Look often, as a wait without end could not be broken off."""
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        errno.ETIMEDOUT, f"another process keeps writing to {self._store}"
                    ) from None
                time.sleep(LOOK_AGAIN_S)
            else:
                return
