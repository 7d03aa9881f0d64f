"""Work of the jobs process that comes again and again, beside refreshes."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from qkd_core.errors import (
    AuditUnavailable,
    CollectorUnavailable,
    KeysExhausted,
    PeerUnavailable,
    QkdError,
    RolledBack,
)

log = logging.getLogger(__name__)

# Told once while they last. RolledBack ends with a restore only, and has its own alarm.
PASSING = (AuditUnavailable, CollectorUnavailable, KeysExhausted, PeerUnavailable, RolledBack)


@dataclass(slots=True)
class Standing:
    """One such job; a failure of ours is one line, and the job comes again.

    What is passing is told once, until it has succeeded. ``at_end``: done once when the process
    stops.
    """

    name: str
    work: Callable[[], object]
    interval_s: float
    at_end: Callable[[], object] | None = None
    _failing: bool = False

    def run(self) -> None:
        self._try(self.work)

    def end(self) -> None:
        if self.at_end is not None:
            self._try(self.at_end)

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except PASSING as error:
            if not self._failing:
                log.warning("%s: %s; it will be tried again", self.name, error)
            self._failing = True
        except QkdError as error:
            log.error("%s: %s: %s", self.name, type(error).__name__, error)
            self._failing = True
        else:
            if self._failing:
                log.info("%s works again", self.name)
            self._failing = False
