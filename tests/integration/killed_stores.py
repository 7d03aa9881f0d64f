"""A process that works on a store, says what was answered, and is killed in the middle of it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from keyferry.store.checks.examples import LINK, SetClock
from keyferry.store.sqlite import Store, open_store
from qkd_core.types.ids import KmeId, Side

Line = list
LOCK = Lock()


def open_site(directory: Path, writer: str) -> Store:
    return open_store(
        directory / "site" / "keys.db",
        root_key=directory / "root",
        link_id=LINK,
        side=Side.A,
        kme_id=KmeId("kme-a"),
        writer=writer,
        clock=SetClock(),
    )


def say(*line: object) -> None:
    """For a script: a line to whoever started it, before the next step."""
    with LOCK:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


@contextmanager
def running(script: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """The script as a process, which can import this module."""
    here = Path(__file__).parent
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here) as process:
        yield process


def killed_after(n: int, counts: Callable[[Line], bool], script: str, *arguments: str) -> list:
    """What the script had said when it was killed: ``n`` lines that count, or more."""
    with running(script, *arguments) as process:
        lines = []
        while n:
            lines.append(process.stdout.readline())
            assert lines[-1], "the process ended by itself"
            n -= counts(json.loads(lines[-1]))
        process.kill()
        lines += process.stdout.readlines()
    return [json.loads(line) for line in lines if line.endswith("\n")]
