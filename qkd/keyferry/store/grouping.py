"""Transitions that wait for one commit: who asked for what, and how they run side by side.

Transitions of one kind may run together, which costs little more than one of them. One that fails
leaves the others alone.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from keyferry.store.transaction import Transaction

Together = Callable[[Transaction, Sequence[Any]], Sequence[Any]]


def _locked() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True)
class Job:
    """One transition, what became of it, and where its caller waits.

    ``together`` gets the items of all jobs that name the same function, and gives a result each.
    """

    together: Together
    item: Any = field(repr=False)
    result: Any = field(default=None, repr=False)
    error: Exception | None = None
    _settled: threading.Lock = field(default_factory=_locked, repr=False)

    def wait(self) -> Any:
        """The result, once it is durable; by one caller, once. Raises the error instead."""
        self._settled.acquire()
        if self.error is not None:
            raise self.error
        return self.result

    def settle(self) -> None:
        """Let the caller go on."""
        self._settled.release()


def one_by_one(tx: Transaction, transitions: Sequence[Callable[[Transaction], Any]]) -> list[Any]:
    """Transitions that have nothing in common."""
    return [transition(tx) for transition in transitions]


def parties(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs that run together, and each of the others by itself."""
    kinds: dict[Together, list[Job]] = {}
    found: list[list[Job]] = []
    for job in jobs:
        if job.together is one_by_one:
            found.append([job])
        elif job.together in kinds:
            kinds[job.together].append(job)
        else:
            kinds[job.together] = [job]
            found.append(kinds[job.together])
    return found


def attempt(transaction: Transaction, jobs: Sequence[Job]) -> None:
    """Run jobs of one kind inside a savepoint; when that fails, each inside its own.

    A failure of the database itself is raised to the group.
    """
    connection, head = transaction.connection, transaction.chain.head
    connection.execute("SAVEPOINT job")
    try:
        results = jobs[0].together(transaction, [job.item for job in jobs])
        transaction.write_up()
    except (sqlite3.OperationalError, sqlite3.InternalError):
        raise
    except Exception as error:  # the top of the job: its caller gets it, the others go on
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        transaction.forget(head)
        _failed(transaction, jobs, error)
        return
    connection.execute("RELEASE job")
    for job, result in zip(jobs, results, strict=True):
        job.result = result


def _failed(transaction: Transaction, jobs: Sequence[Job], error: Exception) -> None:
    if len(jobs) == 1:
        jobs[0].error = error
        return
    for job in jobs:
        attempt(transaction, [job])
