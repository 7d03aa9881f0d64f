"""Pace and leadership of the jobs process."""

import os
import subprocess
import sys
import threading

import pytest

from keyferry.jobs.leader import LeaderLock
from keyferry.retrying import FIRST_S, LONGEST_S, Backoff

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from keyferry.jobs.leader import LeaderLock
assert LeaderLock(Path(sys.argv[1])).take() or sys.exit(1)
print("held", flush=True)
time.sleep(60)
"""


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
