"""The jobs process of a site: refresh runs, key expiry and standing work, by one leader."""

import logging
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from keyferry.jobs.leader import LeaderLock
from keyferry.jobs.refreshing import Refreshing
from keyferry.jobs.retrying import LONGEST_S, Backoff
from keyferry.jobs.standing import Standing
from qkd_core.errors import (
    AuditUnavailable,
    KeysExhausted,
    PeerUnavailable,
    PeerViolation,
    RolledBack,
    SinkRejected,
    SinkUnavailable,
)
from qkd_core.ports import AllocationStore, Clock

log = logging.getLogger(__name__)

STEP_S = 0.5
EXPIRY_S = 10.0
SHORTEST_LIMIT_S = 2.0  # of the waits of a policy that fails
MOST_STEPS = 8  # in a row, before others have their turn
PASSING = (
    AuditUnavailable,
    KeysExhausted,
    PeerUnavailable,
    PeerViolation,
    RolledBack,
    SinkUnavailable,
)


class RefreshJob:
    """One policy's work, in small pieces, at a pace that failures slow down."""

    def __init__(self, refreshing: Refreshing, backoff: Backoff) -> None:
        self.refreshing = refreshing
        self._backoff = backoff
        self._due = Event()

    def start(self) -> None:
        """Pick up after the process before this one; the first run ever is due at once."""
        self.refreshing.forget_aborted()
        if self.refreshing.initiates and self.refreshing.never_ran():
            self._due.set()

    def make_due(self) -> None:
        self._due.set()

    def work(self) -> None:
        """Go as far as one can at this moment; come back later after a passing failure."""
        if not self._backoff.may_try():
            return
        try:
            self._go_on()
        except PASSING as error:
            delay_s = self._backoff.failed()
            name = self.refreshing.policy.name
            log.warning("refresh %s: %s; again in %.1f s", name, error, delay_s)
        except Exception:  # a defect: the scheduler logs it, and the job stays alive
            self._backoff.failed()
            raise
        else:
            self._backoff.succeeded()

    def _go_on(self) -> None:
        for _ in range(MOST_STEPS):
            if self.refreshing.advance():
                continue
            if not self._due.is_set():
                return
            self._begin()

    def _begin(self) -> None:
        """A due time that falls into a run, or meets a refusal for good, is passed over."""
        try:
            self.refreshing.begin()
        except SinkRejected as error:
            log.error("refresh %s: %s", self.refreshing.policy.name, error)
        self._due.clear()


def pace_of(interval_s: float) -> Backoff:
    """How long a policy that failed waits: never so long that it misses more than a due time."""
    longest_s = max(SHORTEST_LIMIT_S, min(LONGEST_S, interval_s / 2))
    return Backoff(time.monotonic, longest_s=longest_s)


class Jobs:
    """Runs the jobs of one site while this process is the leader.

    lock_file  beside the store; a second process on the same store stands by
    """

    def __init__(
        self,
        refreshes: Sequence[Refreshing],
        allocations: AllocationStore,
        clock: Clock,
        lock_file: Path,
        standing: Sequence[Standing] = (),
    ) -> None:
        self._standing = standing
        self._jobs = [
            RefreshJob(refreshing, pace_of(refreshing.policy.interval_s))
            for refreshing in refreshes
        ]
        self._allocations = allocations
        self._clock = clock
        self._lock = LeaderLock(lock_file)
        self.leading = Event()

    def run(self, stop: Event) -> None:
        """Stand by until leader, then work until ``stop``; returns when no job runs any more."""
        if not self._lock.wait(stop):
            return
        try:
            for job in self._jobs:
                job.start()
            scheduler = self._scheduler()
            scheduler.start()
            self.leading.set()
            stop.wait()
            scheduler.shutdown(wait=True)
            for each in self._standing:
                each.end()
        finally:
            self.leading.clear()
            self._lock.release()

    def expire(self) -> None:
        burnt = self._allocations.expire(self._clock.now())
        if burnt:
            log.info("%d keys expired and are burnt", burnt)

    def _scheduler(self) -> BackgroundScheduler:
        """In memory only: what is under way is in the store, and the times follow from UTC."""
        # A job that takes longer than its interval is ordinary here, no event for the log.
        for name in ("apscheduler.scheduler", "apscheduler.executors.default"):
            logging.getLogger(name).setLevel(logging.ERROR)
        scheduler = BackgroundScheduler(
            timezone=UTC,
            # A thread for each: a KMS that is slow to answer holds up its own policy only.
            executors={
                "default": ThreadPoolExecutor(2 * len(self._jobs) + len(self._standing) + 2)
            },
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        for job in self._jobs:
            scheduler.add_job(job.work, IntervalTrigger(seconds=STEP_S, timezone=UTC))
            if job.refreshing.initiates:
                scheduler.add_job(job.make_due, self._schedule(job.refreshing.policy.interval_s))
        for each in (Standing("expiry", self.expire, EXPIRY_S), *self._standing):
            scheduler.add_job(each.run, IntervalTrigger(seconds=each.interval_s, timezone=UTC))
        return scheduler

    def _schedule(self, interval_s: float) -> IntervalTrigger:
        """At the multiples of the interval since 1970, so that restarts do not put it off."""
        whole = math.floor(self._clock.now() / interval_s) + 1
        first = datetime.fromtimestamp(0, UTC) + timedelta(seconds=whole * interval_s)
        return IntervalTrigger(seconds=interval_s, start_date=first, timezone=UTC)
