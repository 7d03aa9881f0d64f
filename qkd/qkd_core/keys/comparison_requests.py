"""The follower's answer to a request to compare: what its API does; its jobs do the looking."""

from collections.abc import Iterable
from dataclasses import replace
from hmac import compare_digest

from qkd_core.errors import ComparisonRefused, KeyNotFound, PeerViolation
from qkd_core.ports import AllocationStore, Clock, ComparisonStore, PolicyStore
from qkd_core.types.comparing import (
    COMPARE_SAE,
    ONE_TIME_BITS,
    Comparison,
    ComparisonAnswer,
    ComparisonRequest,
    OpenComparison,
)
from qkd_core.types.ids import Generation, Side
from qkd_core.types.keys import Allocation
from qkd_core.types.refresh import RefreshPolicy

ALARM = "kms_differs"


class ComparisonRequests:
    """Keeps the peer's requests for the jobs process, which alone has logins to the KMS."""

    def __init__(  # noqa: PLR0913  ports of one site
        self,
        *,
        side: Side,
        policies: Iterable[RefreshPolicy],
        allocations: AllocationStore,
        comparisons: ComparisonStore,
        states: PolicyStore,
        clock: Clock,
    ) -> None:
        self._side, self._clock = side, clock
        self._policies = {policy.name: policy for policy in policies}
        self._allocations, self._comparisons, self._states = allocations, comparisons, states

    def ask(self, request: ComparisonRequest) -> None:
        """Keep the request and take over its one-time keys. Raises ComparisonRefused."""
        if self._comparisons.request(request.request_id) is not None:
            return
        self._check(request)
        for generation, key in request.keys.items():
            self._accept(generation, key)
        forsaken = self._comparisons.ask(
            OpenComparison(
                request_id=request.request_id,
                policy=request.policy,
                generations=request.generations,
                keys={generation: key.key_id for generation, key in request.keys.items()},
                expires_at=request.expires_at,
            )
        )
        for key_id in forsaken:
            self._allocations.drop_held(key_id, burnt=True)

    def answer(self, request_id: str) -> ComparisonAnswer | None:
        """Raises ComparisonRefused for a request that is not known."""
        request = self._comparisons.request(request_id)
        if request is None:
            raise ComparisonRefused(f"request {request_id} is not known here, or is over")
        return request.answer

    def conclude(self, request_id: str, comparison: Comparison) -> None:
        """The result is this site's as well. Raises ComparisonRefused for another policy's."""
        request = self._comparisons.request(request_id)
        if request is None:
            return
        if request.policy != comparison.policy:
            raise ComparisonRefused(f"request {request_id} is about policy {request.policy}")
        result(self._comparisons, self._states, comparison, self._clock.now())
        self._comparisons.forget(request_id)

    def _check(self, request: ComparisonRequest) -> None:
        policy = self._policies.get(request.policy)
        if policy is None:
            raise ComparisonRefused(f"policy {request.policy} is not in this site's file")
        if policy.initiator is self._side:
            raise ComparisonRefused(f"policy {request.policy}: this site is its initiator")
        if not compare_digest(policy.digest, request.policy_digest):
            raise ComparisonRefused(f"policy {request.policy} differs between the two site files")
        if request.expires_at <= self._clock.now():
            raise ComparisonRefused(f"request {request.request_id} has expired")

    def _accept(self, generation: Generation, key: Allocation) -> None:
        if (
            key.owner is not self._side.other
            or key.n_bits != ONE_TIME_BITS
            or (key.master, key.slaves) != (COMPARE_SAE, (COMPARE_SAE,))
        ):
            raise ComparisonRefused(f"key {key.key_id} is no one-time key of the initiator")
        try:
            self._allocations.accept(key)
        except (KeyNotFound, PeerViolation) as error:
            raise ComparisonRefused(
                f"the one-time key of generation {generation} cannot be had: {error}"
            ) from error


def result(
    comparisons: ComparisonStore, states: PolicyStore, comparison: Comparison, now: float
) -> Comparison:
    """Record a comparison at this site; findings that are news are an alarm each time.

    The alarm first: after a crash between the two it is raised once more, and not never.
    """
    known = comparisons.newest(comparison.policy)
    news = [finding for finding in comparison.findings if finding not in known.findings]
    if news:
        states.note_alarm(ALARM, comparison.policy, "; ".join(map(str, news)))
    recorded = replace(comparison, compared_at=now, trouble=None)
    comparisons.record(recorded)
    return recorded
