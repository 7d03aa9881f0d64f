"""When the scheduler fires: at a pace, or at the moments of a refresh schedule.

These triggers never name a moment that has passed: those of the scheduler's own library list each
one between two readings of the clock, which after a clock that was wrong by years are billions.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from apscheduler.triggers.base import BaseTrigger

LONGEST = timedelta(days=1)  # a look too many changes nothing


class Pace(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """Every ``interval_s``, counted from the last time it fired."""

    def __init__(self, interval_s: float) -> None:
        self._interval = timedelta(seconds=interval_s)

    def get_next_fire_time(self, previous: Any, now: datetime) -> datetime:
        return now + self._interval


class Moments(BaseTrigger):  # type: ignore[misc]
    """At the moment that ``next_after`` names for the present one, but within a day."""

    def __init__(self, next_after: Callable[[float], float]) -> None:
        self._next_after = next_after

    def get_next_fire_time(self, previous: Any, now: datetime) -> datetime:
        seconds = self._next_after(now.timestamp()) - now.timestamp()
        return now + timedelta(seconds=max(0.0, min(seconds, LONGEST.total_seconds())))
