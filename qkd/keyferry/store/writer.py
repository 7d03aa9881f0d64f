"""One thread that commits the queued transitions of this process in groups.

A commit costs one flush of the disk; while it runs, the next group gathers. Each transition has
its own savepoint, so that one that fails leaves the others alone. A caller is answered only
after the COMMIT of its group.
"""

import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from keyferry.audit.chain import Chain
from keyferry.store.connection import BUSY_TIMEOUT_MS, connect
from keyferry.store.sealing import Seal
from keyferry.store.transaction import Transaction
from keyferry.store.turnstile import Turnstile
from qkd_core.errors import AuditUnavailable
from qkd_core.ports import Clock

log = logging.getLogger(__name__)
T = TypeVar("T")

GROUP_LIMIT = 256
CHECKPOINT_EVERY_S = 60.0
CHECKPOINT_RETRY_S = 1.0
CHECKPOINT_WAIT_MS = 100  # for readers to finish; the requests in the queue wait as long


@dataclass(slots=True)
class Job:
    """One transition, what became of it, and who waits for it."""

    transition: Callable[[Transaction], Any]
    answer: Future[Any] = field(default_factory=Future)
    result: Any = field(default=None, repr=False)
    error: Exception | None = None

    def attempt(self, transaction: Transaction) -> None:
        """Run inside a savepoint; a failure of the database itself is raised to the group."""
        connection, chain = transaction.connection, transaction.chain
        head = chain.head
        connection.execute("SAVEPOINT job")
        try:
            self.result = self.transition(transaction)
        except (sqlite3.OperationalError, sqlite3.InternalError):
            raise
        except Exception as error:  # the top of the job: its caller gets it, the others go on
            connection.execute("ROLLBACK TO job")
            chain.head = head
            self.error = error
        connection.execute("RELEASE job")

    def settle(self) -> None:
        if self.error is None:
            self.answer.set_result(self.result)
        else:
            self.answer.set_exception(self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterSettings:
    path: Path
    clock: Clock
    epoch_s: float


class Writer:
    """Owns the writing connection of this process."""

    def __init__(self, settings: WriterSettings, chain: Chain, seal: Seal) -> None:
        self._settings, self._chain, self._seal = settings, chain, seal
        self._connection: sqlite3.Connection | None = None
        self._turnstile: Turnstile | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        self._checkpoint_due = time.monotonic() + CHECKPOINT_EVERY_S
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def run(self, transition: Callable[[Transaction], T]) -> T:
        """Commit ``transition`` and return its result.

        Raises what it raises, with nothing written; AuditUnavailable when the disk does not take
        it. In a forked child there is no writer thread: RuntimeError.
        """
        if os.getpid() != self._pid:
            raise RuntimeError("a store is used by the process that opened it: open it after fork")
        job = Job(transition)
        with self._lock:
            if self._closed:
                raise AuditUnavailable("the store is closed")
            self._jobs.put(job)
        answer: Future[T] = job.answer
        return answer.result()

    def close(self) -> None:
        """Commit what is queued, then end the thread and its connection. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            jobs, going = self._next_group()
            if jobs:
                self._commit(jobs)
            self._checkpoint_if_due(now=not going)
        if self._connection is not None:
            self._connection.close()
        if self._turnstile is not None:
            self._turnstile.close()

    def _next_group(self) -> tuple[list[Job], bool]:
        """What is queued, at least one job unless a checkpoint is due; False when closing."""
        jobs: list[Job] = []
        try:
            job = self._jobs.get(timeout=max(0.0, self._checkpoint_due - time.monotonic()))
            while job is not None:
                jobs.append(job)
                if len(jobs) == GROUP_LIMIT:
                    return jobs, True
                job = self._jobs.get_nowait()
        except queue.Empty:
            return jobs, True
        return jobs, False

    def _commit(self, jobs: list[Job]) -> None:
        """One transaction for all of ``jobs``, then their answers."""
        try:
            with self._ready_turnstile().passed():
                connection = self._ready_connection()
                connection.execute("BEGIN IMMEDIATE")
                transaction = self._transaction(connection)
                for job in jobs:
                    job.attempt(transaction)
                connection.execute("COMMIT")
        except Exception as error:  # the top of the thread: every caller of the group gets it
            self._drop_connection()
            failure = self._translated(error)
            log.error("%d transitions were not committed: %s", len(jobs), failure)
            for job in jobs:
                job.answer.set_exception(failure)
            return
        for job in jobs:
            job.settle()

    def _transaction(self, connection: sqlite3.Connection) -> Transaction:
        settings = self._settings
        now = settings.clock.now()
        return Transaction(connection, self._chain, self._seal, now, settings.epoch_s)

    def _translated(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error | OSError):
            return error
        unavailable = AuditUnavailable(f"the store {self._settings.path} takes no records: {error}")
        unavailable.__cause__ = error
        return unavailable

    def _ready_turnstile(self) -> Turnstile:
        if self._turnstile is None:
            self._turnstile = Turnstile(self._settings.path, BUSY_TIMEOUT_MS / 1000)
        return self._turnstile

    def _ready_connection(self) -> sqlite3.Connection:
        """The connection; after a failure a new one, with the chain's head as the table has it."""
        if self._connection is None:
            connection = connect(self._settings.path)
            self._chain.reload(connection)
            self._connection = connection
        return self._connection

    def _drop_connection(self) -> None:
        """Closing rolls back whatever the failed transaction had written."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _checkpoint_if_due(self, now: bool) -> None:
        """Move the WAL into the file and cut it to nothing: deleted boxes stay in it until then."""
        if not (now or time.monotonic() >= self._checkpoint_due):
            return
        self._checkpoint_due = time.monotonic() + CHECKPOINT_EVERY_S
        if self._connection is None:
            return
        try:
            self._connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        except sqlite3.Error as error:
            log.warning("the write-ahead log was not truncated: %s", error)
            self._drop_connection()
            busy = 1
        if busy:
            self._checkpoint_due = time.monotonic() + CHECKPOINT_RETRY_S
