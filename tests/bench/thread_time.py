"""Several pieces of work in one process, by turns, in processor time of this thread."""

import time
from collections.abc import Callable, Mapping
from statistics import median

ROUNDS = 9
SECONDS = 0.02  # a turn repeats its work until it has taken about this long


def interleaved(
    works: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, float]:
    """Seconds a call of each work, the median of ``rounds`` turns; each was called before."""
    repeats = {
        name: max(1, round(SECONDS / max(_once(work), 1e-9))) for name, work in works.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.thread_time()
            for _ in range(repeats[name]):
                work()
            taken[name].append((time.thread_time() - start) / repeats[name])
    return {name: median(times) for name, times in taken.items()}


def _once(work: Callable[[], object]) -> float:
    work()
    start = time.thread_time()
    work()
    return time.thread_time() - start
