"""The initiator's part in comparing the two KMSs of its policies: rarely, one policy at a time.

What is not reached (the peer, a KMS, keys) is late and never a finding. A one-time key is burnt
here before it is used, and at the follower with its use, or when it expires.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from uuid import uuid4

from keyferry.comparing.looking import Looking, Place
from keyferry.retrying import Backoff
from qkd_core.errors import (
    ConfigError,
    DeliveryError,
    PeerSilent,
    PeerUnavailable,
    SinkError,
    SinkUnavailable,
)
from qkd_core.keys.comparing import about, findings_between, in_use, is_due, is_mended
from qkd_core.keys.comparison_requests import result
from qkd_core.keys.refresh import RELEASED
from qkd_core.ports import AllocationStore, ComparisonPeer, ComparisonStore, PolicyStore
from qkd_core.types.comparing import (
    COMPARE_SAE,
    ONE_TIME_BITS,
    Comparison,
    ComparisonRequest,
    KmsLook,
)
from qkd_core.types.ids import Generation
from qkd_core.types.keys import Allocation, KeyRequest

log = logging.getLogger(__name__)

BY = "reconciliation"
REQUEST_S = 120.0  # a request and its one-time keys live so long
WAIT_S = 30.0  # for the follower's jobs process
POLL_S = 0.2
LONGEST_WAIT_S = 600.0  # between tries that fail
PEER = "the other site"


class PutOff(Exception):
    """A run is under way, or there is nothing to compare yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparingSite:
    """What comparisons of a site work on."""

    looking: Looking
    allocations: AllocationStore
    comparisons: ComparisonStore
    states: PolicyStore
    peer: ComparisonPeer


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The follower was asked. ``deadline``: on the monotonic clock."""

    place: Place
    request: ComparisonRequest
    mine: KmsLook
    deadline: float


@dataclass(slots=True)
class Comparing:
    """Compares the policies that this site initiates, each every ``every_s``.

    ``places``: of all policies of this site.
    """

    site: ComparingSite
    places: Sequence[Place]
    every_s: float
    monotonic: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] = time.sleep
    _lock: Lock = field(default_factory=Lock)
    _waiting: Waiting | None = None
    _last: dict[str, float] = field(default_factory=dict)
    _paces: dict[str, Backoff] = field(default_factory=dict)

    def work(self) -> None:
        """One small step. Raises AuditUnavailable; any other failure waits and is tried again."""
        if not self._lock.acquire(blocking=False):
            return  # an order is carried out
        try:
            self._step()
        finally:
            self._lock.release()

    def compare(self, policy: str) -> Comparison:
        """Compare now, on an operator's order; it takes seconds.

        Raises ConfigError (no such policy, not initiated here, a run is under way),
        PeerUnavailable, SinkUnavailable, SinkRejected, KeysExhausted.
        """
        with self._lock:
            place = self._named(policy)
            self._waiting = None  # its request is replaced, or expires
            try:
                waiting = self._begin(place)
                while (done := self._poll(waiting)) is None:
                    self.pause(POLL_S)
            except PutOff as error:
                raise ConfigError(f"policy {policy}: {error}") from error
            except (DeliveryError, SinkError) as error:
                self._late(policy, error)
                raise
            self._succeeded(place)
            return done

    def _step(self) -> None:
        waiting = self._waiting
        place = waiting.place if waiting is not None else self._next()
        if place is None:
            return
        name = place.policy.name
        try:
            if waiting is None:
                self._waiting = self._begin(place)
            elif self._poll(waiting) is not None:
                self._succeeded(place)
                self._waiting = None
        except PutOff:
            self._give_up(name)
        except (DeliveryError, SinkError) as error:
            self._give_up(name, *_failing_as_one(place, error))
            self._late(name, error)
        except Exception:
            self._give_up(name)
            raise

    def _next(self) -> Place | None:
        now = self.site.looking.clock.now()
        if not self._may_try(PEER):
            return None
        due = []
        for place in self.places:
            name = place.policy.name
            if not self._initiates(place):
                continue
            if name not in self._last:
                # One that was never compared waits for its turn, as if it had been just now.
                self._last[name] = self.site.comparisons.newest(name).compared_at or now
            if (
                is_due(name, self._last[name], now, self.every_s)
                and self._may_try(name)
                and self._may_try(place.server)
            ):
                due.append(place)
        # The longest waiting first, so that none is always before the others.
        return min(due, key=lambda place: self._last[place.policy.name], default=None)

    def _named(self, policy: str) -> Place:
        place = next((place for place in self.places if place.policy.name == policy), None)
        if place is None:
            raise ConfigError(f"policy {policy!r} is not in this site's file")
        if not self._initiates(place):
            raise ConfigError(f"policy {policy} is compared by its initiator: order it there")
        return place

    def _initiates(self, place: Place) -> bool:
        return place.policy.initiator is self.site.looking.side

    def _begin(self, place: Place) -> Waiting:
        """Look here, and ask the follower to look there."""
        generations = self._in_use(place)
        seen = self.site.looking.see(place, generations)
        keys = self._one_time_keys(list(seen.secrets))
        secrets = {generation: self._used_up(key) for generation, key in keys.items()}
        request = ComparisonRequest(
            request_id=str(uuid4()),
            policy=place.policy.name,
            policy_digest=place.policy.digest,
            generations=generations,
            keys=keys,
            expires_at=self.site.looking.clock.now() + REQUEST_S,
        )
        self.site.peer.ask(request)
        deadline = self.monotonic() + WAIT_S
        return Waiting(place=place, request=request, mine=seen.look(secrets.get), deadline=deadline)

    def _poll(self, waiting: Waiting) -> Comparison | None:
        """The comparison when the follower has answered."""
        name = waiting.place.policy.name
        answer = self.site.peer.answer(waiting.request.request_id)
        if answer is None:
            if self.monotonic() > waiting.deadline:
                raise PeerUnavailable(f"the other site did not look in {WAIT_S:g} s")
            return None
        if answer.look is None:
            raise PeerUnavailable(f"the other site could not look: {answer.trouble}")
        if self._in_use(waiting.place) != waiting.request.generations:
            raise PutOff("its generations changed meanwhile")
        theirs = replace(answer.look, findings=about(self.site.looking.side.other, answer.look))
        findings, compared = findings_between(waiting.mine, theirs)
        active = waiting.request.generations[-1]
        before = self.site.comparisons.newest(name).ordered_for
        mended = is_mended(findings, active, before, self.site.states.state(name))
        comparison = Comparison(
            policy=name,
            generations=waiting.request.generations,
            bytes_compared=compared,
            findings=findings,
            ordered_for=active if mended else before,
        )
        return self._conclude(waiting.request.request_id, comparison, mended)

    def _conclude(self, request_id: str, comparison: Comparison, mended: bool) -> Comparison:
        """The other site first: what it was not told is compared again."""
        self.site.peer.conclude(request_id, comparison)
        for finding in comparison.findings:
            log.error("comparing the KMSs for %s: %s", comparison.policy, finding)
        if mended:
            self.site.states.make_due(comparison.policy, None, BY)
        now = self.site.looking.clock.now()
        return result(self.site.comparisons, self.site.states, comparison, now)

    def _in_use(self, place: Place) -> tuple[Generation, ...]:
        """Raises PutOff while a run is under way: its versions come and go."""
        policy, refreshes = place.policy, self.site.looking.refreshes
        newest = refreshes.newest(policy.name)
        if newest is None:
            raise PutOff("it never ran")
        if newest.state not in RELEASED:
            raise PutOff(f"generation {newest.generation} is {newest.state}")
        now = self.site.looking.clock.now()
        generations = in_use(refreshes.done(policy.name), now, policy.grace_s)
        if not generations:
            raise PutOff("no generation is active")
        return generations

    def _one_time_keys(self, generations: Sequence[Generation]) -> dict[Generation, Allocation]:
        if not generations:
            return {}
        request = KeyRequest(
            master=COMPARE_SAE,
            slaves=(COMPARE_SAE,),
            number=len(generations),
            n_bits=ONE_TIME_BITS,
        )
        expires_at = self.site.looking.clock.now() + REQUEST_S
        keys = self.site.allocations.hold(request, expires_at)
        return dict(zip(generations, keys, strict=True))

    def _used_up(self, key: Allocation) -> bytes:
        secret = self.site.allocations.read_held(key.key_id).secret
        self.site.allocations.drop_held(key.key_id, burnt=True)
        return secret

    def _may_try(self, name: str) -> bool:
        return name not in self._paces or self._paces[name].may_try()

    def _give_up(self, *names: str) -> None:
        self._waiting = None
        for name in names:
            if name not in self._paces:
                self._paces[name] = Backoff(self.monotonic, longest_s=LONGEST_WAIT_S)
            self._paces[name].failed()

    def _late(self, name: str, error: Exception) -> None:
        log.warning("comparing the KMSs for %s: %s; it will be tried again", name, error)
        self.site.comparisons.note_late(name, str(error))

    def _succeeded(self, place: Place) -> None:
        self._last[place.policy.name] = self.site.looking.clock.now()
        for name in (place.policy.name, place.server, PEER):
            self._paces.pop(name, None)


def _failing_as_one(place: Place, error: Exception) -> tuple[str, ...]:
    """What else is not tried for a while: the other policies meet the same."""
    if isinstance(error, SinkUnavailable):
        return (place.server,)
    return (PEER,) if isinstance(error, PeerSilent) else ()
