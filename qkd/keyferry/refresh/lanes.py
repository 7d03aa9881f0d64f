"""A few threads for each server that fails as one, so that nobody waits for another one's."""

import logging
import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread, current_thread

log = logging.getLogger(__name__)

MOST_THREADS = 4
IDLE_S = 10.0  # then a thread ends

Work = Callable[[], None]


class Lane:
    """Does what it is given, in turn. Threads are made when there is work for them."""

    def __init__(self, name: str, most_threads: int = MOST_THREADS, idle_s: float = IDLE_S) -> None:
        self._name, self._most, self._idle_s = name, most_threads, idle_s
        self._waiting: deque[Work] = deque()
        self._threads: list[Thread] = []
        self._idle = 0
        self._closed = False
        self._changed = Condition()

    def submit(self, work: Work) -> None:
        """Do ``work`` as soon as a thread is free. Once the lane is closed it is dropped."""
        with self._changed:
            if self._closed:
                return
            self._waiting.append(work)
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif len(self._threads) < self._most:
                thread = Thread(target=self._run, name=f"lane {self._name}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def close(self) -> None:
        """Drop what waits; what is under way goes on: see `join`."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def join(self, deadline: float) -> bool:
        """Whether all has ended by ``deadline``, of the monotonic clock."""
        with self._changed:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception:  # a defect: the thread goes on with the next one
                log.exception("a job of lane %s failed", self._name)

    def _next(self) -> Work | None:
        """None when nothing came for a while, or the lane is closed: the thread ends."""
        with self._changed:
            self._idle += 1
            try:
                self._changed.wait_for(lambda: self._waiting or self._closed, self._idle_s)
            finally:
                self._idle -= 1
            if self._waiting:
                return self._waiting.popleft()
            self._threads = [each for each in self._threads if each is not current_thread()]
            return None


class Lanes:
    """One lane for each name, made when it is first asked for."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}

    def of(self, name: str) -> Lane:
        return self._lanes.setdefault(name, Lane(name))

    def close(self, patience_s: float) -> bool:
        """Whether all that was under way has ended within ``patience_s``."""
        for lane in self._lanes.values():
            lane.close()
        deadline = time.monotonic() + patience_s
        return all([lane.join(deadline) for lane in self._lanes.values()])
