"""Kernels are compiled once, beforehand, on all processors."""

import os
import pkgutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from keyferry.processes.warmup import PACKAGES, families

PATIENCE_S = 30.0


def test_every_module_of_kernels_is_in_one_family():
    every = [
        module.name
        for package in PACKAGES
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ]

    assert sorted(name for names in families().values() for name in names) == sorted(every)


def test_workers_end_when_their_parent_is_killed(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "keyferry", "warm"]
    with (tmp_path / "log").open("w") as log:
        parent = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    workers = until(lambda: children_of(parent.pid))

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    until(lambda: not any(is_alive(pid) for pid in workers))


def until(question):
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := question()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def children_of(pid):
    told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in told.split()]


def is_alive(pid):
    """Also one that ended and waits for its parent is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
