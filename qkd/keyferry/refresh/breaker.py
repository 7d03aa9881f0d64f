"""A circuit breaker: what does not answer is tried by one caller at a time, at a slow pace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from keyferry.retrying import Backoff
from qkd_core.errors import QkdError

OPENS_AFTER = 3  # failures in a row


class Breaker:
    """Opens after three failures in a row and closes at the first answer. Thread-safe.

    what     names it in `trouble`, which is told while it is open
    failure  raised instead of a call while it is open; its kind is what counts as a failure, and
             any other error of ours is an answer
    """

    def __init__(self, what: str, failure: type[QkdError], pace: Backoff | None = None) -> None:
        self.trouble = f"{what} does not answer; it is tried now and then"
        self._failure = failure
        self._pace = pace or Backoff(time.monotonic)
        self._lock = Lock()
        self._in_a_row = 0
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._in_a_row >= OPENS_AFTER

    def may_try(self) -> bool:
        """Whether a call would go through at this moment."""
        return not self.is_open or (not self._probing and self._pace.may_try())

    @contextmanager
    def around(self) -> Iterator[None]:
        """Make a call inside. Raises the breaker's own failure, at once, while it is open."""
        probes = self._enter()
        answered: bool | None = None
        try:
            yield
            answered = True
        except self._failure:
            answered = False
            raise
        except QkdError:
            answered = True
            raise
        finally:
            self._leave(probes, answered)

    def _enter(self) -> bool:
        with self._lock:
            if not self.may_try():
                raise self._failure(self.trouble)
            self._probing = self.is_open
            return self._probing

    def _leave(self, probes: bool, answered: bool | None) -> None:
        with self._lock:
            if probes:
                self._probing = False
            if answered is None:
                return
            if answered:
                self._in_a_row = 0
                self._pace.succeeded()
                return
            self._in_a_row += 1
            if probes or self._in_a_row == OPENS_AFTER:
                self._pace.failed()
