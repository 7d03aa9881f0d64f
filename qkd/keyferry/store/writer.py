"""One thread that commits the queued transitions of this process in groups.

A commit costs one flush of the disk; while it runs, the next group gathers. One transition that
fails leaves the others alone. A caller is answered only after the COMMIT of its group.
"""

import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from keyferry.audit.chain import Chain
from keyferry.store.connection import BUSY_TIMEOUT_MS, connect
from keyferry.store.grouping import Job, attempt, one_by_one, parties
from keyferry.store.sealing import Seal
from keyferry.store.transaction import Transaction
from keyferry.store.turnstile import Turnstile
from qkd_core.errors import AuditUnavailable
from qkd_core.ports import Clock

log = logging.getLogger(__name__)
T = TypeVar("T")
Item = TypeVar("Item")

GROUP_LIMIT = 256
CHECKPOINT_EVERY_S = 60.0
CHECKPOINT_RETRY_S = 1.0
GATHER_S = 0.0003  # for one more to come, when callers are expected back
IN_VAIN = 32
PROBE_S = 1.0  # while nothing can be written: how often that is tried without being asked
CHECKPOINT_WAIT_MS = 100  # for readers to finish; the requests in the queue wait as long


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterSettings:
    """``committed``: told the chain's head after each commit, before anybody is answered."""

    path: Path
    clock: Clock
    epoch_s: float
    witnessed: bool = False
    committed: Callable[[Chain], None] | None = None


class Writer:
    """Owns the writing connection of this process."""

    def __init__(self, settings: WriterSettings, chain: Chain, seal: Seal) -> None:
        self._settings, self._chain, self._seal = settings, chain, seal
        self._connection: sqlite3.Connection | None = None
        self._turnstile = Turnstile(settings.path, BUSY_TIMEOUT_MS / 1000)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        self._checkpoint_due = time.monotonic() + CHECKPOINT_EVERY_S
        self._writable = True
        self._in_vain = 0  # commits before the next wait for callers, after one that none came in
        self._crowd = 0  # callers at the end of the last commit: those in it, and those waiting
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def run(self, transition: Callable[[Transaction], T]) -> T:
        """Commit ``transition`` and return its result.

        Raises what it raises, with nothing written; AuditUnavailable when the disk does not take
        it. In a forked child there is no writer thread: RuntimeError.
        """
        answer: T = self._answer(Job(one_by_one, transition))
        return answer

    def run_together(
        self, together: Callable[[Transaction, Sequence[Item]], Sequence[T]], item: Item
    ) -> T:
        """As `run`, for a transition that is cheaper in company.

        ``together`` gets the items of all callers who wait with the same function, and gives a
        result for each. When it raises, nothing of it is written and each item has its own turn.
        """
        answer: T = self._answer(Job(together, item))
        return answer

    def _answer(self, job: Job) -> Any:
        if os.getpid() != self._pid:
            raise RuntimeError("a store is used by the process that opened it: open it after fork")
        with self._lock:
            if self._closed:
                raise AuditUnavailable("the store is closed")
            self._jobs.put(job)
        return job.wait()

    @property
    def path(self) -> Path:
        return self._settings.path

    @property
    def witnessed(self) -> bool:
        return self._settings.witnessed

    @property
    def writable(self) -> bool:
        """Whether the last transition that was tried could be written."""
        return self._writable

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
            if not jobs and not self._writable and going:
                jobs = [Job(one_by_one, _probe)]
            if jobs:
                self._commit(jobs)
            self._checkpoint_if_due(now=not going)
        if self._connection is not None:
            self._connection.close()
        self._turnstile.close()

    def _next_group(self) -> tuple[list[Job], bool]:
        """What is queued, none when a checkpoint or a probe is due; False when closing."""
        jobs: list[Job] = []
        try:
            wait_s = max(0.0, self._checkpoint_due - time.monotonic())
            job = self._jobs.get(timeout=wait_s if self._writable else min(wait_s, PROBE_S))
            while job is not None:
                jobs.append(job)
                if len(jobs) == GROUP_LIMIT:
                    return jobs, True
                job = self._one_more(len(jobs))
        except queue.Empty:
            return jobs, True
        return jobs, False

    def _one_more(self, n_jobs: int) -> Job | None:
        """The next in the queue; callers that were just answered have a moment to come back."""
        if n_jobs >= self._crowd or self._in_vain:
            return self._jobs.get_nowait()
        try:
            return self._jobs.get(timeout=GATHER_S)
        except queue.Empty:
            self._in_vain = IN_VAIN
            raise

    def _commit(self, jobs: list[Job]) -> None:
        """One transaction for all of ``jobs``, then their answers."""
        try:
            connection = self._ready_connection()
            with self._turnstile.passed():
                connection.execute("BEGIN IMMEDIATE")
                transaction = self._transaction(connection)
                for party in parties(jobs):
                    attempt(transaction, party)
                connection.execute("COMMIT")
        except Exception as error:  # the top of the thread: every caller of the group gets it
            self._drop_connection()
            failure = self._translated(error)
            self._note_failure(failure)
            for job in jobs:
                job.error = failure
                job.settle()
            return
        self._chain.settled()
        if self._settings.committed is not None:
            self._settings.committed(self._chain)
        if not self._writable:
            self._writable = True
            log.warning("the store takes records again")
        self._crowd = len(jobs) + self._jobs.qsize()
        self._in_vain = max(0, self._in_vain - 1)
        for job in jobs:
            job.settle()

    def _note_failure(self, failure: Exception) -> None:
        """An alarm when the store stops taking records; while it lasts it is not said again."""
        if not isinstance(failure, AuditUnavailable) or self._writable:
            log.error("nothing is committed, so nothing happens: %s", failure)
        if isinstance(failure, AuditUnavailable):
            self._writable = False

    def _transaction(self, connection: sqlite3.Connection) -> Transaction:
        settings = self._settings
        now = settings.clock.now()
        return Transaction(
            connection, self._chain, self._seal, now, settings.epoch_s, settings.witnessed
        )

    def _translated(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error | OSError):
            return error
        unavailable = AuditUnavailable(f"the store {self._settings.path} takes no records: {error}")
        unavailable.__cause__ = error
        return unavailable

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


def _probe(transaction: Transaction) -> None:
    transaction.note("probed", str(transaction.now))
