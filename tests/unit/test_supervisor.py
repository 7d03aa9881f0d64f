"""Processes that are kept running, and that end with whoever started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyferry.processes.supervisor import BAD_SETTING, POOL_EXHAUSTED, Part, Supervisor
from qkd_core.errors import ConfigError

PATIENCE_S = 10.0


def until(ready) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


@pytest.fixture
def supervisor():
    running = Supervisor()
    yield running
    running.stop()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_part_is_started_again(supervisor):
    supervisor.start(Part(name="sleeper", command=python("import time; time.sleep(60)")))
    first = supervisor.pid("sleeper")
    os.kill(first, signal.SIGKILL)

    def again() -> bool:
        supervisor.watch()
        return supervisor.pid("sleeper") != first and alive(supervisor.pid("sleeper"))

    until(again)


@pytest.mark.parametrize("code", [0, 1, BAD_SETTING])
def test_what_comes_first_ends_before_the_part_starts_however_it_ends(supervisor, tmp_path, code):
    order, open_ = tmp_path / "order", tmp_path / "open"
    note = f"f = open({str(order)!r}, 'a'); print('%s', file=f, flush=True);"
    wait = f"import os, time\nwhile not os.path.exists({str(open_)!r}): time.sleep(0.02)\n"
    part = Part(
        name="engine",
        command=python(note % "engine" + "import time; time.sleep(60)"),
        first=python(note % "first" + f"\n{wait}raise SystemExit({code})"),
    )
    supervisor.start(part)
    until(order.exists)
    first = supervisor.pid("engine")
    for _ in range(10):
        supervisor.watch()
        time.sleep(0.02)
    assert supervisor.pid("engine") == first
    open_.touch()

    def started() -> bool:
        supervisor.watch()
        return order.read_text().split() == ["first", "engine"]

    until(started)
    assert supervisor.pid("engine") != first


def test_a_part_with_a_wrong_setting_stops_everything_and_says_why(supervisor, tmp_path):
    code = f"print('keyferry: port 1 is taken', flush=True); raise SystemExit({BAD_SETTING})"
    log = tmp_path / "api.log"
    supervisor.start(Part(name="api", command=python(code), log_file=log))

    def refused() -> bool:
        try:
            supervisor.watch()
        except ConfigError as error:
            return str(error) == f"api cannot start: port 1 is taken ({log})"
        return False

    until(refused)


def test_a_part_that_ran_once_is_tried_again_even_if_its_port_was_taken_meanwhile(
    supervisor, tmp_path
):
    runs = tmp_path / "runs"
    code = (
        f"f = open({str(runs)!r}, 'a+'); f.seek(0); n = len(f.read()); f.write('x'); f.close();"
        f"raise SystemExit({{0: 1, 1: {BAD_SETTING}}}.get(n, 0))"
    )
    supervisor.start(Part(name="api", command=python(code)))

    def third() -> bool:
        supervisor.watch()
        return runs.exists() and len(runs.read_text()) >= 3

    until(third)


def test_an_engine_without_pads_is_not_started_again(supervisor, tmp_path):
    runs = tmp_path / "runs"
    code = f"open({str(runs)!r}, 'a').write('x'); raise SystemExit({POOL_EXHAUSTED})"
    supervisor.start(Part(name="engine", command=python(code)))
    until(lambda: runs.exists() and runs.read_text() == "x")
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        supervisor.watch()
        time.sleep(0.05)
    assert runs.read_text() == "x"


def test_a_part_that_ignores_the_request_to_end_is_killed(supervisor, monkeypatch, tmp_path):
    monkeypatch.setattr("keyferry.processes.supervisor.STOP_S", 0.3)
    ready = tmp_path / "ready"
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(ready)!r}, 'w').close(); time.sleep(60)"
    )
    supervisor.start(Part(name="stubborn", command=python(code)))
    pid = supervisor.pid("stubborn")
    until(ready.exists)
    supervisor.stop()
    assert not alive(pid)


def test_the_output_of_a_part_goes_to_its_private_log(supervisor, tmp_path):
    log = tmp_path / "part.log"
    supervisor.start(Part(name="part", command=python("print('hello')"), log_file=log))
    until(lambda: log.exists() and "hello" in log.read_text())
    assert log.stat().st_mode & 0o777 == 0o600


def test_children_end_when_their_parent_is_killed(tmp_path):
    pid_file = tmp_path / "pid"
    code = (
        "import time; from pathlib import Path; from keyferry.processes.supervisor import *;"
        "s = Supervisor();"
        "s.start(Part(name='child', command=[__import__('sys').executable, '-c',"
        " 'import time; time.sleep(60)']));"
        f"Path({str(pid_file)!r}).write_text(str(s.pid('child'))); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: pid_file.exists() and pid_file.read_text())
        child = int(pid_file.read_text())
        time.sleep(0.3)  # it tethers itself first
        assert alive(child)
        parent.kill()
        parent.wait(10)
        deadline = time.monotonic() + 2
        while alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not alive(child)
    finally:
        parent.kill()
        parent.wait(10)
