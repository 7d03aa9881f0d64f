"""Kill a site at the n-th I/O call of a transition, for every n, and look what is left.

    crash_points.py FOLDER GROUP

The calls are those of the database, of the network and of erasing a file: SQL statements, what
sockets send and receive, flushing to the disk and unlinking. A query is not counted: it changes
nothing, so that a process killed before it leaves what one killed before its next call leaves.
For each n two prepared sites are copied, a child process carries out one transition and ends
itself before its n-th call (as by SIGKILL: nothing is flushed or closed), and another child opens
both sites again, lets them settle and checks the laws. Prints one JSON line per transition.
This program has no thread of its own when it forks, and the product has no hook for it.
"""

import gc
import json
import os
import shutil
import socket
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from laws import Sites, check_laws
from orders import ORDERS
from transitions import GROUPS, Transition, prepare

KILLED, FAILED = 99, 98
MOST_POINTS = 400  # a transition that never ends would be a defect of this program

DATABASE_CALLS = ("execute", "executemany", "commit")
QUERY = "SELECT"
SOCKET_CALLS = ("sendall", "send", "recv", "recv_into", "connect")
FILE_CALLS = ("fsync", "unlink")


class Counter:
    """Ends the process before the n-th call, once it is armed."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.seen = 0

    def arm(self, number: int) -> None:
        self.left = number

    def call(self) -> None:
        self.seen += 1
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                os._exit(KILLED)


COUNTER = Counter()


class CountingConnection(sqlite3.Connection):
    def execute(self, sql: str, *arguments: Any) -> Any:
        if not sql.lstrip().startswith(QUERY):
            COUNTER.call()
        return super().execute(sql, *arguments)

    def executemany(self, *arguments: Any) -> Any:
        COUNTER.call()
        return super().executemany(*arguments)


def count_calls() -> None:
    connect = sqlite3.connect

    def counting(*arguments: Any, **named: Any) -> Any:
        return connect(*arguments, factory=CountingConnection, **named)

    sqlite3.connect = counting  # type: ignore[assignment]
    for owner, names in ((socket.socket, SOCKET_CALLS), (os, FILE_CALLS)):
        for name in names:
            count_calls_of(owner, name)


def count_calls_of(owner: Any, name: str) -> None:
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        COUNTER.call()
        return original(*arguments, **named)

    setattr(owner, name, wrapped)


def ready_for_children() -> None:
    """Load the ciphers once and not in each child; what it only looks at need not be copied."""
    AESGCMSIV(bytes(32)).encrypt(bytes(12), b"", None)
    key = Ed25519PrivateKey.generate()
    key.public_key().verify(key.sign(b""), b"")
    gc.freeze()


def in_a_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a child process of its own; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = FAILED
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def killed_at(folder: Path, transition: Transition, number: int) -> bool:
    """One try; whether the process got as far as its ``number``-th call."""

    def carry_out() -> None:
        sites = Sites(folder)
        transition.carry_out(sites, lambda: COUNTER.arm(number))
        sites.note_answers()

    code = in_a_child(carry_out)
    if code not in (0, KILLED):
        raise AssertionError(f"{transition.name} failed at call {number}")
    if in_a_child(lambda: check_laws(folder, transition)) != 0:
        raise AssertionError(f"{transition.name} killed at call {number}: a law is broken")
    return code == KILLED


def walk(folder: Path, transition: Transition) -> int:
    """Kill at every call of the transition; how many there are."""
    prepared = folder / "prepared"
    if in_a_child(lambda: prepare(prepared, transition)) != 0:
        raise AssertionError(f"{transition.name} could not be prepared")
    for number in range(1, MOST_POINTS):
        copy = folder / "copy"
        shutil.copytree(prepared, copy)
        reached = killed_at(copy, transition, number)
        shutil.rmtree(copy)
        if not reached:
            shutil.rmtree(prepared)
            return number - 1
    raise AssertionError(f"{transition.name} has more than {MOST_POINTS} calls")


def main() -> None:
    folder, group = Path(sys.argv[1]), sys.argv[2]
    count_calls()
    ready_for_children()
    for transition in (GROUPS | {"orders": ORDERS})[group]:
        n_points = walk(folder, transition)
        print(json.dumps({"transition": transition.name, "points": n_points}), flush=True)


if __name__ == "__main__":
    main()
