"""Start processes, start them again when they die, end them all."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from keyferry.processes.tether import tethered
from qkd_core.errors import ConfigError

log = logging.getLogger(__name__)

BAD_SETTING = 2  # exit code of a part that can never start as it is configured
POOL_EXHAUSTED = 3  # exit code of an engine that needs a rekey
STOP_S, END_S = 5.0, 2.0
REKEYED_S = 60.0  # how often there is a look whether the link was rekeyed
FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S = 0.5, 15.0, 30.0


def keyferry_command(*arguments: str) -> list[str]:
    """This very installation's command line, whatever PATH says."""
    return [sys.executable, "-m", "keyferry", *arguments]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A process to keep running. ``log_file``: where its output goes; None: this one's.

    ``first``: a command that ends before the process is started, however it ends.
    """

    name: str
    command: list[str]
    first: list[str] | None = None
    log_file: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    started: float
    starts: int = 1
    failures: int = 0
    again_at: float | None = None
    preparing: bool = False


class Supervisor:
    """Not thread-safe: start, watch and stop from the main thread, as tethering needs."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    def start(self, part: Part) -> None:
        command = part.first or part.command
        process = spawn(replace(part, command=command))
        preparing = part.first is not None
        self._running[part.name] = _Running(part, process, time.monotonic(), preparing=preparing)

    def pid(self, name: str) -> int:
        return self._running[name].process.pid

    def watch(self) -> None:
        """Look after every part once. Raises ConfigError when one can never start."""
        now = time.monotonic()
        for entry in self._running.values():
            if entry.again_at is not None:
                if now >= entry.again_at:
                    entry.process, entry.started = spawn(entry.part), now
                    entry.starts += 1
                    entry.again_at = None
                continue
            code = entry.process.poll()
            if code is None:
                continue
            if entry.preparing:
                entry.process, entry.started, entry.preparing = spawn(entry.part), now, False
                continue
            self._died(entry, code, now)

    def _died(self, entry: _Running, code: int, now: float) -> None:
        if code == BAD_SETTING and entry.starts == 1:  # later it may be a port that is taken
            raise ConfigError(f"{entry.part.name} cannot start: {last_words(entry.part)}")
        if code == POOL_EXHAUSTED:
            log.critical("%s stopped: the link needs a rekey", entry.part.name)
            entry.again_at = now + REKEYED_S
            return
        entry.failures = 0 if now - entry.started > STEADY_S else entry.failures + 1
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** max(0, entry.failures - 1))
        log.warning("%s ended (%d), again in %.1f s", entry.part.name, code, pause_s)
        entry.again_at = now + pause_s

    def stop(self) -> None:
        """End all parts, the last started first; by force after a few seconds."""
        self._end(list(reversed(self._running.values())), STOP_S)
        self._running.clear()

    def end(self, *names: str) -> None:
        """End some parts for good; by force after a moment."""
        self._end([entry for entry in self._running.values() if entry.part.name in names], END_S)
        for name in names:
            self._running.pop(name, None)

    def _end(self, entries: list[_Running], patience_s: float) -> None:
        for entry in entries:
            if entry.process.poll() is None:
                entry.process.terminate()
        deadline = time.monotonic() + patience_s
        for entry in entries:
            try:
                entry.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                entry.process.kill()
                entry.process.wait()


def last_words(part: Part) -> str:
    """The last line that the part wrote, for who does not want to look for its log."""
    if part.log_file is None:
        return "see above"
    lines = part.log_file.read_text(errors="replace").splitlines()
    said = next((line for line in reversed(lines) if line.strip()), "no word")
    return f"{said.removeprefix('keyferry: ')} ({part.log_file})"


def spawn(part: Part) -> subprocess.Popen[bytes]:
    """Start ``part`` as a tethered child, out of reach of the terminal's Ctrl-C."""
    output = None
    if part.log_file is not None:
        output = os.open(part.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603  our own command lines
            tethered(part.command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | part.environment,
            start_new_session=True,
        )
    finally:
        if output is not None:
            os.close(output)


class StopSignal:
    """True once SIGTERM or SIGINT came. Install it in the main thread.

    ``then`` is called as well, at once and in the signal handler.
    """

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self._came = False
        self._then = then
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def __call__(self) -> bool:
        return self._came

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        self._then()


def keep_running(
    supervisor: Supervisor,
    parts: list[Part],
    stopping: Callable[[], bool],
    at_end: Callable[[], None] = lambda: None,
) -> None:
    """Run ``parts`` until told to stop, do what is to be done ``at_end``, then end them."""
    try:
        for part in parts:
            supervisor.start(part)
        while not stopping():
            supervisor.watch()
            time.sleep(0.2)
        at_end()
    finally:
        supervisor.stop()
