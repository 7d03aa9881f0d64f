"""What a peer that takes connections and answers nothing may cost: one waiting thread at a time.

A thread of the API that waits for the peer serves nobody else. So after one call was kept waiting
in vain, calls fail at once; every few seconds one of them is let through to find out more.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from qkd_core.errors import PeerSilent

LONG_S = 0.5  # a call that failed sooner kept nobody waiting
PAUSE_S = 2.0


class Silence:
    """Of one peer, for all threads that call it. ``clock``: seconds that only grow."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._lasts = False
        self._try_at = 0.0
        self._trying = Lock()

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Around one call, which raises PeerSilent without an answer. Raises it without a call."""
        if not self._lasts:
            with self._observed():
                yield
            return
        if self._clock() < self._try_at or not self._trying.acquire(blocking=False):
            raise PeerSilent(f"KME {self._name} did not answer a moment ago")
        try:
            with self._observed():
                yield
        finally:
            self._trying.release()

    @contextmanager
    def _observed(self) -> Iterator[None]:
        began = self._clock()
        try:
            yield
        except PeerSilent:
            if self._clock() - began >= LONG_S:
                self._lasts, self._try_at = True, self._clock() + PAUSE_S
            raise
        self._lasts = False
