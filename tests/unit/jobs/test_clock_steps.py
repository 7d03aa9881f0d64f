"""A clock that is set: no job stops, none is run a billion times, no slot comes twice."""

import time
from datetime import UTC, datetime, timedelta

import apscheduler.schedulers.base
import pytest

from keyferry.jobs.clock_watch import ClockWatch
from keyferry.jobs.timetable import Timetable
from keyferry.jobs.triggers import Moments, Pace

HOUR_S, DECADE_S = 3600.0, 10 * 365.25 * 86400.0


class ManualClock:
    def __init__(self):
        self.time, self.ticks = 1000.0, 50.0

    def now(self):
        return self.time

    def monotonic(self):
        return self.ticks

    def go_on(self, seconds):
        self.time += seconds
        self.ticks += seconds


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S, 3.0, -3.0, DECADE_S, -DECADE_S])
def test_a_step_is_seen_once(step_s):
    clock = ManualClock()
    watch = ClockWatch(clock, clock.monotonic)
    clock.go_on(1.0)
    assert watch.step_s() == 0.0
    clock.go_on(1.0)
    clock.time += step_s
    assert watch.step_s() == pytest.approx(step_s)
    clock.go_on(1.0)
    assert watch.step_s() == 0.0


def test_drift_and_a_late_look_are_no_steps():
    clock = ManualClock()
    watch = ClockWatch(clock, clock.monotonic)
    for _ in range(100):
        clock.go_on(5.0)
        clock.time += 0.5  # a clock that is pulled into place
        assert watch.step_s() == 0.0


def test_triggers_name_no_moment_that_has_passed():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    long_ago = now - timedelta(seconds=DECADE_S)
    assert Pace(0.5).get_next_fire_time(long_ago, now) == now + timedelta(seconds=0.5)
    hourly = Moments(lambda after: after + HOUR_S)
    assert hourly.get_next_fire_time(long_ago, now) == now + timedelta(hours=1)


@pytest.mark.parametrize("far", [2 * 86400.0, DECADE_S, float("inf")])
def test_a_far_moment_is_looked_at_again_within_a_day(far):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert Moments(lambda after: after + far).get_next_fire_time(None, now) - now == timedelta(1)


@pytest.fixture
def wall(monkeypatch):
    """The clock that the scheduler reads, set by ``wall.step``."""

    class Stepped(datetime):
        step = timedelta()

        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + cls.step

    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", Stepped)
    monkeypatch.setattr("keyferry.jobs.timetable.datetime", Stepped)
    return Stepped


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S, 3.0, -3.0, DECADE_S, -DECADE_S])
def test_jobs_go_on_at_their_pace_after_a_step(wall, wait_for, step_s):
    timetable, often, standing, moments = Timetable(1), [], [], []

    def next_hour(moment):
        moments.append(moment)
        return moment + HOUR_S

    timetable.often(lambda: often.append(1), 0.05)
    timetable.standing(lambda: standing.append(1), 0.05)
    timetable.at_moments(lambda: None, next_hour)
    timetable.start()
    try:
        wait_for(lambda: len(often) > 2 and len(standing) > 2)
        wall.step = timedelta(seconds=step_s)
        timetable.clock_was_set()
        n_often, n_standing = len(often), len(standing)
        wait_for(lambda: len(often) > n_often + 3 and len(standing) > n_standing + 3, 5)
        assert len(often) < 100, "one run for all that was missed"
        assert abs(moments[-1] - time.time() - step_s) < 5, "counted anew from the time it is now"
    finally:
        timetable.stop()


def test_a_step_of_years_that_nobody_has_noticed_yet_is_one_run_for_all(wall, wait_for):
    timetable, often = Timetable(1), []
    timetable.often(lambda: often.append(1), 0.05)
    timetable.start()
    try:
        wait_for(lambda: len(often) > 2)
        wall.step = timedelta(seconds=DECADE_S)
        n_often = len(often)
        wait_for(lambda: len(often) > n_often + 3, 5)
        assert len(often) < 100
    finally:
        timetable.stop()
