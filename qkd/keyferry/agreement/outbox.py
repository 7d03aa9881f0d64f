"""Tell the other KME of every allocation, at once, until it has acknowledged it."""

import logging
import random
import time
import traceback
from collections.abc import Mapping, Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Protocol, Self

from keyferry.peer.session import Verdict
from qkd_core.errors import PeerUnavailable, QkdError
from qkd_core.ports import AllocationStore
from qkd_core.types.ids import KeyId
from qkd_core.types.keys import Allocation

log = logging.getLogger(__name__)

BATCH = 200
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
LONGEST_ROW_PAUSE_S = 60.0
STOP_S = 2.0
GATHERING_S = 0.02  # after the first new row, for others that go with it in one message
NEVER = float("inf")


class TakesAllocations(Protocol):
    """The peer, as far as the outbox needs it."""

    def offer(self, allocations: Sequence[Allocation]) -> Mapping[KeyId, Verdict]:
        """One verdict for each allocation. Idempotent. Raises PeerUnavailable, PeerViolation."""


class OutboxSender:
    """A thread that empties the outbox: when poked, and at least each ``interval_s``.

    While the peer is away it waits longer and longer, with jitter. A row of which the peer lacks
    the block is offered again later and later; a row that the peer refuses is not offered again
    by this process, and is an alarm.
    """

    def __init__(
        self, allocations: AllocationStore, peer: TakesAllocations, interval_s: float = 1.0
    ) -> None:
        self._allocations, self._peer, self._interval_s = allocations, peer, interval_s
        self._rows = PostponedRows()
        self._failures = 0
        self._poked, self._stopping = Event(), Event()
        self._thread = Thread(target=self._run, name="outbox", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; a request under way has a moment to end, and else ends with the process."""
        self._stopping.set()
        self._poked.set()
        self._thread.join(STOP_S)

    def poke(self) -> None:
        """There is something new in the outbox."""
        self._poked.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._poked.clear()
            if self._sent_all():
                if self._poked.wait(self._interval_s):
                    self._stopping.wait(GATHERING_S)
            elif self._failures:
                self._stopping.wait(pause_s(self._failures))

    def _sent_all(self) -> bool:
        """Send one batch. False when there is more, or when it failed and is to be tried again."""
        try:
            more = self.send_batch()
        except PeerUnavailable as error:
            self._failed(logging.WARNING, str(error))
            return False
        except QkdError as error:
            self._failed(logging.ERROR, f"{type(error).__name__}: {error}")
            return False
        except Exception as error:
            places = "".join(traceback.format_tb(error.__traceback__))
            self._failed(logging.CRITICAL, f"unexpected {type(error).__name__}\n{places}")
            return False
        if self._failures:
            log.info("the outbox is sent again after %d failures", self._failures)
        self._failures = 0
        return not more

    def _failed(self, level: int, why: str) -> None:
        if self._failures == 0 and not self._stopping.is_set():
            log.log(level, "the outbox is not sent, and will be tried again: %s", why)
        self._failures += 1

    def send_batch(self) -> bool:
        """Offer the oldest rows that are due; whether there may be more of them."""
        now = time.monotonic()
        rows = self._allocations.outbox(BATCH + len(self._rows))
        due = self._rows.due(rows, now)[:BATCH]
        if not due:
            return False
        verdicts = self._peer.offer(due)
        self._allocations.acknowledge(
            [each for each, verdict in verdicts.items() if verdict is Verdict.ACCEPTED]
        )
        self._rows.postpone(verdicts, now)
        return len(due) == BATCH


class PostponedRows:
    """Rows that were offered in vain, and when each is due again."""

    def __init__(self) -> None:
        self._due: dict[KeyId, float] = {}
        self._pause_s: dict[KeyId, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def due(self, rows: Sequence[Allocation], now: float) -> list[Allocation]:
        """The rows to offer now; forgets what is not in the outbox any more."""
        ids = {row.key_id for row in rows}
        for gone in self._due.keys() - ids:
            del self._due[gone], self._pause_s[gone]
        return [row for row in rows if self._due.get(row.key_id, 0.0) <= now]

    def postpone(self, verdicts: Mapping[KeyId, Verdict], now: float) -> None:
        for key_id, verdict in verdicts.items():
            if verdict is Verdict.ACCEPTED:
                self._due.pop(key_id, None)
                self._pause_s.pop(key_id, None)
                continue
            if verdict is Verdict.REFUSED:
                log.critical("the peer refuses the allocation of key %s", key_id)
            pause = min(LONGEST_ROW_PAUSE_S, 2 * self._pause_s.get(key_id, SHORTEST_PAUSE_S))
            self._pause_s[key_id] = pause
            self._due[key_id] = NEVER if verdict is Verdict.REFUSED else now + pause


def pause_s(failures: int) -> float:
    """Exponential, with jitter, so that two sites do not knock in step."""
    longest = min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2.0 ** min(failures, 16))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
