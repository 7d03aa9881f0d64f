"""Key management systems and the other site, each behind its circuit breaker."""

from collections.abc import Callable, Mapping, Sequence
from threading import BoundedSemaphore
from typing import TypeVar

from keyferry.refresh.breaker import Breaker
from qkd_core.errors import PeerSilent, PeerUnavailable
from qkd_core.ports import KeySink, RefreshPeer
from qkd_core.types.ids import Generation
from qkd_core.types.keys import DeliveredKey, RefreshRun
from qkd_core.types.refresh import RefreshProposal, SinkVersion

T = TypeVar("T")

MOST_CALLS = 8  # to the other site at a time


class GuardedSink:
    """A KeySink whose calls raise SinkUnavailable at once while its server does not answer."""

    def __init__(self, sink: KeySink, breaker: Breaker) -> None:
        self._sink, self._breaker = sink, breaker

    def prepare(self, key: DeliveredKey, generation: Generation) -> None:
        with self._breaker.around():
            self._sink.prepare(key, generation)

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        with self._breaker.around():
            return self._sink.publish(key, generation)

    def agree(self, generation: Generation) -> None:
        with self._breaker.around():
            self._sink.agree(generation)

    def abandon(self, generation: Generation) -> None:
        with self._breaker.around():
            self._sink.abandon(generation)

    def retire(self, generation: Generation) -> None:
        with self._breaker.around():
            self._sink.retire(generation)

    def state(self) -> tuple[Generation, int]:
        with self._breaker.around():
            return self._sink.state()

    def versions(self) -> tuple[SinkVersion, ...]:
        with self._breaker.around():
            return self._sink.versions()


class GuardedPeer:
    """A RefreshPeer whose calls raise PeerUnavailable at once while the other site is away.

    A few calls at a time: however many lanes there are, its API has threads for others, too.
    """

    def __init__(self, peer: RefreshPeer, breaker: Breaker) -> None:
        self._peer, self._breaker = peer, breaker
        self._turns = BoundedSemaphore(MOST_CALLS)

    def agree(self, policy: str, digest: str) -> None:
        self._asked(lambda: self._peer.agree(policy, digest))

    def propose(self, proposal: RefreshProposal) -> RefreshRun:
        return self._asked(lambda: self._peer.propose(proposal))

    def runs(self, run_ids: Sequence[str]) -> Mapping[str, RefreshRun | None]:
        with self._turns, self._breaker.around():
            return self._peer.runs(run_ids)

    def _asked(self, question: Callable[[], T]) -> T:
        """A site that is there may put one policy off: that says nothing about the others."""
        put_off: PeerUnavailable | None = None
        with self._turns, self._breaker.around():
            try:
                return question()
            except PeerSilent:
                raise
            except PeerUnavailable as error:
                put_off = error
        raise put_off
