"""When a refresh policy is due: the multiples of an interval, or a cron expression, in UTC.

A due time is a *slot*, in seconds since 1970, and a delay of at most the policy's jitter, which is
the same whenever it is asked for: so a slot is told from the next one after any restart.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Protocol

from qkd_core.errors import ConfigError
from qkd_core.types.refresh import RefreshPolicy

CRON_FIELDS = 5
FIRST_LOOK_BACK_S = 120.0
SLOTS_COMPARED = 8  # of a cron expression, to see how close its slots are
WEEKDAYS = 4  # the place of the days of the week
NAMED_DAYS = re.compile(r"[a-z*,/?#-]*(/[0-9]+)?", re.IGNORECASE)


class Slots(Protocol):
    """Due times without their jitter."""

    def after(self, moment: float) -> float | None:
        """The first slot after ``moment``; None when there is none any more."""


@dataclass(frozen=True, slots=True)
class Multiples:
    """Every ``interval_s`` since 1970, so that a restart puts nothing off."""

    interval_s: float

    def after(self, moment: float) -> float:
        number = math.floor(moment / self.interval_s) + 1
        while number * self.interval_s <= moment:  # a product may be rounded down to it
            number += 1
        return number * self.interval_s


class Cron:
    """Minute, hour, day of month, month, day of week. Raises ConfigError.

    Days of the week by name only: what number is Sunday differs between programs.
    """

    def __init__(self, expression: str) -> None:
        from apscheduler.triggers.cron import CronTrigger

        fields = expression.split()
        if len(fields) != CRON_FIELDS:
            raise ConfigError(f"cron {expression!r}: {len(fields)} fields, it has {CRON_FIELDS}")
        if not NAMED_DAYS.fullmatch(fields[WEEKDAYS]):
            raise ConfigError(f"cron {expression!r}: days of the week by name, as mon-fri")
        try:
            self._trigger = CronTrigger.from_crontab(expression, timezone=UTC)
        except ValueError as error:
            raise ConfigError(f"cron {expression!r}: {error}") from error
        if self.after(0.0) is None:
            raise ConfigError(f"cron {expression!r}: no such moment")

    def after(self, moment: float) -> float | None:
        start = datetime.fromtimestamp(moment, UTC) + timedelta(microseconds=1)
        found: datetime | None = self._trigger.get_next_fire_time(None, start)
        return None if found is None else found.timestamp()


@dataclass(frozen=True, slots=True)
class Schedule:
    """The slots of one policy, and how long after each a run begins."""

    name: str
    slots: Slots
    jitter_s: float

    def after(self, moment: float) -> float:
        """The first slot after ``moment``; infinity when there is none."""
        found = self.slots.after(moment)
        return math.inf if found is None else found

    def next_moment(self, now: float) -> float:
        """The first moment after ``now`` at which a run of any slot is due."""
        slot, first = now - self.jitter_s, math.inf
        while (slot := self.after(slot)) < first:
            moment = slot + self.delay_s(slot)
            if now < moment < first:
                first = moment
        return first

    def delay_s(self, slot: float) -> float:
        """From 0 to the jitter, spread evenly over policies and slots."""
        drawn = hashlib.sha256(f"{self.name} {slot!r}".encode()).digest()
        return self.jitter_s * int.from_bytes(drawn[:8], "big") / 2**64

    def newest(self, after: float, until: float) -> float | None:
        """The last slot after ``after`` whose moment has come at ``until``, None if there is none.

        Several that were missed together count as one.
        """
        return self._last(after, until, lambda slot: slot + self.delay_s(slot) <= until)

    def last(self, until: float) -> float:
        """The last slot that is not after ``until``, its moment come or not; 0 if there is none."""
        return self._last(0.0, until, lambda slot: True) or 0.0

    def _last(self, after: float, until: float, counts: Callable[[float], bool]) -> float | None:
        back_s = FIRST_LOOK_BACK_S + self.jitter_s
        while True:
            begin = max(after, until - back_s)
            come = [slot for slot in self._between(begin, until) if counts(slot)]
            if come or begin == after:
                return max(come, default=None)
            back_s *= 16

    def _between(self, after: float, until: float) -> Iterator[float]:
        slot = self.after(after)
        while slot <= until:
            yield slot
            slot = self.after(slot)


def schedule_of(policy: RefreshPolicy) -> Schedule:
    """Raises ConfigError for a cron expression that is none, and one with too much jitter."""
    if policy.cron is None:
        return Schedule(policy.name, Multiples(policy.interval_s or math.inf), policy.jitter_s)
    schedule = Schedule(policy.name, Cron(policy.cron), policy.jitter_s)
    slots = [schedule.after(0.0)]
    for _ in range(SLOTS_COMPARED if policy.jitter_s else 0):
        slots.append(schedule.after(slots[-1]))
    closest_s = min((late - early for early, late in pairwise(slots)), default=math.inf)
    if policy.jitter_s > closest_s / 2:
        raise ConfigError(
            f"refresh policy {policy.name!r}: jitter_s {policy.jitter_s:g}, its due times are"
            f" {closest_s:g} s apart: from 0 to half of that"
        )
    return schedule
