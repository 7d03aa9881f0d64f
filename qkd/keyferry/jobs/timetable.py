"""What the jobs process does when: in memory only, since what is under way is in the store."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from keyferry.jobs.triggers import Moments, Pace

RUNS = "runs"  # the executor of what refresh runs need, so that nothing else is in their way


class Timetable:
    """A scheduler in UTC. A job that is still running when it is due again is passed over."""

    def __init__(self, n_standing: int) -> None:
        # A job that takes longer than its interval is ordinary here, no event for the log.
        for name in ("scheduler", "executors.default", f"executors.{RUNS}"):
            logging.getLogger(f"apscheduler.{name}").setLevel(logging.ERROR)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(n_standing), RUNS: ThreadPoolExecutor(4)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def often(self, work: Callable[[], object], interval_s: float) -> None:
        """At once, and every ``interval_s``, for refresh runs."""
        self._add(work, Pace(interval_s), RUNS, at_once=True)

    def standing(self, work: Callable[[], object], interval_s: float) -> None:
        """Every ``interval_s``, for everything else."""
        self._add(work, Pace(interval_s), "default")

    def at_moments(self, work: Callable[[], object], next_after: Callable[[float], float]) -> None:
        """``next_after``: the moment that comes after a given one, in seconds since 1970."""
        self._add(work, Moments(next_after), RUNS)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        """Returns when no job runs any more."""
        self._scheduler.shutdown(wait=True)

    def clock_was_set(self) -> None:
        """Count all times anew: else a clock that was set back would stop every job till then."""
        now = datetime.now(UTC)
        for job in self._scheduler.get_jobs():
            at_once = isinstance(job.trigger, Pace)
            first = now if at_once else job.trigger.get_next_fire_time(None, now)
            self._scheduler.modify_job(job.id, next_run_time=first)

    def _add(
        self, work: Callable[[], object], trigger: BaseTrigger, executor: str, at_once: bool = False
    ) -> None:
        first = {"next_run_time": datetime.now(UTC)} if at_once else {}
        self._scheduler.add_job(work, trigger, executor=executor, **first)
