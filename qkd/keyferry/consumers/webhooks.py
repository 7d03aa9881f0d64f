"""Consumers are told that a generation is active, so that they need not poll.

Each message is sent until the consumer has answered 2xx, so it comes at least once: a crash between
the answer and its record sends it again, with the same ID. Messages of one policy come in order,
those of different policies do not wait for each other.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Lock

from keyferry.consumers.webhook_call import WebhookCall
from keyferry.retrying import Backoff
from qkd_core.errors import ConfigError, ConsumerGone, ConsumerUnavailable
from qkd_core.ports import Clock, PolicyStore
from qkd_core.types.ids import KmeId
from qkd_core.types.refresh import ActiveEvent

log = logging.getLogger(__name__)

GIVE_UP_S = 3 * 86400.0  # after a generation became active
MOST_WAITING = 50  # of one policy; the oldest is given up for a newer one
LONGEST_WAIT_S = 300.0  # between two tries of a message
THREADS = 8  # for consumers that answered the last time, and as many for the others
AT_A_TIME = 3  # calls of one URL: many policies may have the same consumer
AT_LEAST = 1000  # events read at a time


class Webhooks:
    """The messages of one site. ``calls``: by policy, for those whose consumer is told."""

    def __init__(
        self,
        policies: PolicyStore,
        calls: Mapping[str, WebhookCall],
        kme: KmeId,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policies, self._calls, self._kme = policies, calls, kme
        self._clock, self._monotonic = clock, monotonic
        self._lock = Lock()
        self._under_way: dict[str, str] = {}  # policy: URL
        self._failing: set[str] = set()  # URLs whose last call failed
        self._paces: dict[str, tuple[str, Backoff]] = {}  # policy: message, its pace
        self._prompt = ThreadPoolExecutor(THREADS, "webhook")
        self._slow = ThreadPoolExecutor(THREADS, "webhook-again")

    def work(self) -> None:
        """Begin to tell what is to be told now; returns at once."""
        with self._lock:  # before the reading: what ends meanwhile is not told again
            busy = set(self._under_way)
        waiting: dict[str, list[ActiveEvent]] = {}
        limit = AT_LEAST + (MOST_WAITING + 1) * len(self._calls)  # so that none hides the others'
        for event in self._policies.events(limit):
            waiting.setdefault(event.policy, []).append(event)
        for policy, events in waiting.items():
            if policy not in self._calls:
                self._end_all([event for event in events if event.tries], "no consumer in the file")
                self._end_all([event for event in events if not event.tries], None)
            elif policy not in busy:
                self._end_all(events[:-MOST_WAITING], f"{MOST_WAITING} newer ones wait")
                self._begin(events[-MOST_WAITING:][0])
        with self._lock:
            self._paces = {name: pace for name, pace in self._paces.items() if name in waiting}

    def close(self) -> None:
        """Wait for the calls that are under way; the others are made by the next process."""
        for lane in (self._prompt, self._slow):
            lane.shutdown(wait=False, cancel_futures=True)
        for lane in (self._prompt, self._slow):
            lane.shutdown(wait=True)

    def _end_all(self, events: Sequence[ActiveEvent], problem: str | None) -> None:
        for event in events:
            self._policies.event_ended(event.event_id, problem)

    def _begin(self, event: ActiveEvent) -> None:
        """Call the consumer in another thread, if its time has come."""
        url = self._calls[event.policy].url
        with self._lock:
            under_way = list(self._under_way.values()).count(url)
            if under_way >= AT_A_TIME or not self._pace(event).may_try():
                return
            self._under_way[event.policy] = url
            lane = self._slow if url in self._failing else self._prompt
        lane.submit(self._tell, event)

    def _pace(self, event: ActiveEvent) -> Backoff:
        """It goes on where an earlier process was."""
        known = self._paces.get(event.policy)
        if known is None or known[0] != event.event_id:
            pace = Backoff(self._monotonic, longest_s=LONGEST_WAIT_S)
            for _ in range(min(event.tries, 10)):  # by then the waits are the longest
                pace.failed()
            known = self._paces[event.policy] = (event.event_id, pace)
        return known[1]

    def _tell(self, event: ActiveEvent) -> None:
        call = self._calls[event.policy]
        try:
            try:
                call.tell(event.event_id, message(event, self._kme), self._clock.now())
            except ConsumerGone as error:
                self._end_all([event], str(error))
            except (ConsumerUnavailable, ConfigError) as error:
                self._failed(event, call, error)
            else:
                with self._lock:
                    self._failing.discard(call.url)
                self._policies.event_ended(event.event_id, None)
        except Exception:
            with self._lock:  # else it would be told again each second
                self._pace(event).failed()
            log.exception("refresh %s: telling its consumer", event.policy)
            raise
        finally:
            with self._lock:
                self._under_way.pop(event.policy, None)

    def _failed(self, event: ActiveEvent, call: WebhookCall, error: Exception) -> None:
        with self._lock:
            self._failing.add(call.url)
            delay_s = self._pace(event).failed()
        if self._clock.now() - event.at > GIVE_UP_S:
            self._end_all([event], f"given up after {event.tries + 1} tries: {error}")
            return
        self._policies.event_tried(event.event_id)
        log.log(
            logging.INFO if event.tries else logging.WARNING,
            "refresh %s: generation %d is not told: %s; again in %.1f s",
            *(event.policy, event.generation, error, delay_s),
        )


def message(event: ActiveEvent, kme: KmeId) -> bytes:
    """What a consumer is told: names and a time, no key."""
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds")
    told = {
        "type": "generation.active",
        "policy": event.policy,
        "generation": event.generation,
        "key_id": event.key_id,
        "kme": kme,
        "at": at.replace("+00:00", "Z"),
    }
    return json.dumps(told, separators=(",", ":")).encode()
