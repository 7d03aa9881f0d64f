"""Pace, leadership and due times of the jobs process."""

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyferry.jobs.leader import LeaderLock
from keyferry.jobs.process import Jobs, RefreshJob, pace_of
from keyferry.jobs.retrying import FIRST_S, LONGEST_S, Backoff
from qkd_core.errors import KeysExhausted, PeerUnavailable, SinkRejected

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from keyferry.jobs.leader import LeaderLock
assert LeaderLock(Path(sys.argv[1])).take() or sys.exit(1)
print("held", flush=True)
time.sleep(60)
"""


class Policy:
    name = "p"
    interval_s = 60.0


class Scripted:
    """Stands for Refreshing: what each call does is listed beforehand."""

    initiates = True
    policy = Policy()

    def __init__(self, *, advances: list[object], begins: list[object], ran: bool = True) -> None:
        self.advances, self.begins, self.ran = advances, begins, ran
        self.begun = self.forgotten = 0

    def never_ran(self) -> bool:
        return not self.ran

    def forget_aborted(self) -> None:
        self.forgotten += 1

    def begin(self) -> None:
        self.begun += 1
        outcome = self.begins.pop(0) if self.begins else None
        if isinstance(outcome, Exception):
            raise outcome

    def advance(self) -> bool:
        outcome = self.advances.pop(0) if self.advances else False
        if isinstance(outcome, Exception):
            raise outcome
        return bool(outcome)


class Nobody:
    """Stands for the allocations of a store without keys."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def expire(self, now: float) -> int:
        self.asked.append(now)
        return 0


class Now:
    def __init__(self, time: float) -> None:
        self.time = time

    def now(self) -> float:
        return self.time


def a_job(script: Scripted) -> tuple[RefreshJob, list[float]]:
    clock = [0.0]
    return RefreshJob(script, Backoff(lambda: clock[0], lambda: 0.5)), clock  # type: ignore[arg-type]


def test_waits_double_up_to_a_minute_with_jitter_and_start_over_after_success() -> None:
    clock, fractions = [0.0], iter([0.0, 0.999, *[0.5] * 20])
    backoff = Backoff(lambda: clock[0], lambda: next(fractions))
    assert backoff.may_try()
    assert backoff.failed() == pytest.approx(FIRST_S / 2)
    assert backoff.failed() == pytest.approx(2 * FIRST_S, rel=1e-3)
    assert not backoff.may_try()
    waits = [backoff.failed() for _ in range(12)]
    assert waits == sorted(waits) and waits[-1] == pytest.approx(0.75 * LONGEST_S)
    clock[0] += LONGEST_S
    assert backoff.may_try()
    backoff.succeeded()
    assert backoff.failed() == pytest.approx(0.75 * FIRST_S)


@pytest.mark.parametrize(("interval_s", "longest_s"), [(10, 5), (1, 2), (3600, LONGEST_S)])
def test_a_policy_never_waits_longer_than_half_its_interval_or_a_minute(
    interval_s, longest_s
) -> None:
    pace = pace_of(interval_s)
    waits = [pace.failed() for _ in range(20)]
    assert longest_s / 2 <= max(waits) <= longest_s


def test_the_first_run_ever_is_due_at_once_and_later_ones_when_told() -> None:
    for ran, begun in ((False, 1), (True, 0)):
        script = Scripted(advances=[], begins=[], ran=ran)
        job, _ = a_job(script)
        job.start()
        job.work()
        assert (script.begun, script.forgotten) == (begun, 1)
        job.make_due()
        job.work()
        job.work()
        assert script.begun == begun + 1


def test_a_run_goes_as_far_as_it_can_in_one_go() -> None:
    script = Scripted(advances=[True, True, True, False, True], begins=[])
    job, _ = a_job(script)
    job.work()
    assert script.advances == [True]


def test_a_passing_failure_waits_and_what_was_due_stays_due(caplog) -> None:
    script = Scripted(advances=[], begins=[KeysExhausted("empty", 5)])
    job, clock = a_job(script)
    job.make_due()
    job.work()
    job.work()
    assert script.begun == 1
    assert "again in" in caplog.text
    clock[0] += FIRST_S
    job.work()
    assert script.begun == 2
    job.work()
    assert script.begun == 2


def test_a_refusal_for_good_waits_for_the_next_due_time() -> None:
    script = Scripted(advances=[], begins=[SinkRejected("denied")])
    job, _ = a_job(script)
    job.make_due()
    job.work()
    job.work()
    assert script.begun == 1


def test_a_defect_is_passed_on_and_slows_the_job_down() -> None:
    script = Scripted(advances=[ZeroDivisionError(), True, PeerUnavailable("cut")], begins=[])
    job, clock = a_job(script)
    with pytest.raises(ZeroDivisionError):
        job.work()
    job.work()
    assert len(script.advances) == 2
    clock[0] += FIRST_S
    job.work()
    assert script.advances == []


def test_due_times_are_multiples_of_the_interval_in_utc(tmp_path) -> None:
    jobs = Jobs([], Nobody(), Now(1000.0), tmp_path / "lock")  # type: ignore[arg-type]
    trigger = jobs._schedule(60.0)
    first = trigger.get_next_fire_time(None, datetime.fromtimestamp(1000, UTC))
    assert first.timestamp() == 1020.0
    assert trigger.get_next_fire_time(first, first).timestamp() == 1080.0


def test_only_one_process_leads_and_the_lock_ends_with_its_holder(tmp_path) -> None:
    path = tmp_path / "jobs.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        lock, stop = LeaderLock(path), threading.Event()
        assert not lock.take()
        stop.set()
        assert not lock.wait(stop)
    finally:
        holder.kill()
        holder.wait(timeout=10)
        holder.communicate()
    assert lock.wait(threading.Event())
    assert lock.take()
    lock.release()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_second_jobs_process_stands_by_until_the_first_ends(tmp_path: Path) -> None:
    stops = [threading.Event(), threading.Event()]
    all_jobs = [
        Jobs([], Nobody(), Now(0.0), tmp_path / "lock")  # type: ignore[arg-type]
        for _ in stops
    ]
    threads = [
        threading.Thread(target=jobs.run, args=(stop,))
        for jobs, stop in zip(all_jobs, stops, strict=True)
    ]
    threads[0].start()
    assert all_jobs[0].leading.wait(5)
    threads[1].start()
    assert not all_jobs[1].leading.wait(0.7)
    stops[0].set()
    assert all_jobs[1].leading.wait(5)
    stops[1].set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_keys_are_expired_at_the_time_of_the_clock(tmp_path) -> None:
    keys = Nobody()
    Jobs([], keys, Now(123.0), tmp_path / "lock").expire()  # type: ignore[arg-type]
    assert keys.asked == [123.0]
