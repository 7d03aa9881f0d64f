"""Keep the threads of a busy Python process together.

The interpreter's lock lets one of them run at a time wherever they are; handing it over between
processors costs several times as much as on one (measured: 29 changes of thread a delivered key
against 5, and a third of the throughput).
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

_allowed = os.sched_getaffinity
_allow = os.sched_setaffinity
THIS_THREAD = 0


def one_of_the_allowed() -> int:
    """A processor that this process may use; drawn, as several services may share a machine."""
    return random.choice(sorted(_allowed(THIS_THREAD)))  # noqa: S311 (no secret)


def move_to(processor: int) -> None:
    """Run this thread, and all that it will start, on ``processor``."""
    _allow(THIS_THREAD, {processor})


@contextmanager
def staying_on(processor: int) -> Iterator[None]:
    """Threads that are started inside run on ``processor``; this one does so only meanwhile."""
    before = _allowed(THIS_THREAD)
    move_to(processor)
    try:
        yield
    finally:
        _allow(THIS_THREAD, before)
