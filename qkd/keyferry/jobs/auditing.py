"""What the jobs process does for the audit: checkpoints, countersignatures, export."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from keyferry.audit.asking import Asking
from keyferry.audit.checkpoints import Checkpoints
from keyferry.audit.otlp import Exporter
from keyferry.retrying import Backoff
from qkd_core.errors import CollectorUnavailable, PeerUnavailable, PeerViolation, RolledBack

MOST_BATCHES = 20  # in a row, before others have their turn


@dataclass(slots=True)
class Proving:
    """A checkpoint at once, then every ``checkpoint_s`` when there is something new.

    Each is countersigned as soon as the other site answers.
    """

    checkpoints: Checkpoints
    asking: Asking
    checkpoint_s: float
    monotonic: Callable[[], float] = time.monotonic
    _due: float = float("-inf")
    _pace: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Backoff(self.monotonic)

    def work(self) -> None:
        """Raises PeerUnavailable, PeerViolation, RolledBack, AuditUnavailable, ConfigError."""
        if self.monotonic() >= self._due:
            self._due = self.monotonic() + self.checkpoint_s
            self.checkpoints.make()
        if not self._pace.may_try():
            return
        try:
            done = self.asking.countersign_newest()
        except (PeerUnavailable, PeerViolation, RolledBack):
            self._pace.failed()
            raise
        if done:
            self._pace.succeeded()
        else:
            self._pace.failed()

    def finish(self) -> None:
        """At the end: one more checkpoint, countersigned if the other site answers at once."""
        self._due = float("-inf")
        self._pace.succeeded()
        self.work()


@dataclass(slots=True)
class Exporting:
    """Sends records to the collector soon after they are written."""

    exporter: Exporter
    _pace: Backoff = field(default_factory=lambda: Backoff(time.monotonic))

    def work(self) -> None:
        """Raises CollectorUnavailable, AuditUnavailable."""
        if not self._pace.may_try():
            return
        try:
            for _ in range(MOST_BATCHES):
                if not self.exporter.send_new():
                    break
        except CollectorUnavailable:
            self._pace.failed()
            raise
        self._pace.succeeded()
