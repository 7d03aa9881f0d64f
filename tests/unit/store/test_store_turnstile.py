"""Whose turn it is to write, between processes and while one of them never stops."""

import fcntl
import os
import stat
import subprocess
import sys
import threading
import time

import pytest

from keyferry.store.checks.examples import LATER, a_block, a_request
from keyferry.store.turnstile import PLACES, Turnstile
from qkd_core.types.ids import BlockId

# Passes the turnstile at argv[1], again and again without a pause, until its input ends.
GREEDY = """
import sys, threading, time
from pathlib import Path
from keyferry.store.turnstile import Turnstile
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
turnstile = Turnstile(Path(sys.argv[1]), 10)
print("ready", flush=True)
while not ended.is_set():
    with turnstile.passed():
        time.sleep(0.005)
"""


@pytest.fixture
def greedy(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", GREEDY, str(tmp_path / "store")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


def test_a_process_that_always_writes_lets_another_in_soon(tmp_path, greedy):
    """SQLite alone made the other process wait 1 to 4 s, in each of three runs."""
    turnstile = Turnstile(tmp_path / "store", 10)
    waits = []
    for _ in range(40):
        began = time.monotonic()
        with turnstile.passed():
            waits.append(time.monotonic() - began)
        time.sleep(0.002)
    turnstile.close()
    assert sorted(waits)[len(waits) // 2] < 0.05
    assert max(waits) < 1.0


def test_one_at_a_time_is_inside(tmp_path):
    inside, most = [], []

    def pass_often():
        turnstile = Turnstile(tmp_path / "store", 10)
        for _ in range(25):
            with turnstile.passed():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()
        turnstile.close()

    threads = [threading.Thread(target=pass_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), set(most)) == (100, {1})


def test_a_process_that_is_killed_inside_leaves_the_way_free(tmp_path, greedy):
    greedy.kill()
    greedy.wait(10)
    with Turnstile(tmp_path / "store", 1).passed():
        pass


def test_patience_ends_with_an_error_and_the_turn_goes_to_the_next(tmp_path):
    blocking = os.open(tmp_path / f"store{PLACES[1]}", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(blocking, fcntl.LOCK_EX)
    turnstile = Turnstile(tmp_path / "store", 0.05)
    with pytest.raises(TimeoutError, match="another process keeps writing"), turnstile.passed():
        raise AssertionError("nobody was to be let in")
    os.close(blocking)
    with Turnstile(tmp_path / "store", 1).passed():
        pass


def test_the_lock_files_of_a_store_are_private(open_site, tmp_path):
    store = open_site()
    store.blocks.store_pending(a_block(BlockId(1)))
    store.blocks.make_available(BlockId(1))
    assert store.allocations.deliver(a_request(), LATER)
    for place in PLACES:
        mode = (tmp_path / "a" / f"keys.db{place}").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
