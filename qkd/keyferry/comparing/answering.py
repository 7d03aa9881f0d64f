"""The follower's part in a comparison: it looks into its KMS when the initiator asks."""

import logging
from collections.abc import Mapping, Sequence

from keyferry.comparing.looking import Looking, Place
from qkd_core.errors import DeliveryError, KeyNotFound, SinkError
from qkd_core.ports import AllocationStore, ComparisonStore
from qkd_core.types.comparing import ComparisonAnswer, OpenComparison
from qkd_core.types.ids import Generation, KeyId

log = logging.getLogger(__name__)


class ComparisonAnswers:
    """Answers what the API process has taken down. One thread at a time."""

    def __init__(
        self,
        looking: Looking,
        places: Sequence[Place],
        allocations: AllocationStore,
        comparisons: ComparisonStore,
    ) -> None:
        self._looking, self._clock = looking, looking.clock
        self._places = {place.policy.name: place for place in places}
        self._allocations, self._comparisons = allocations, comparisons

    def work(self) -> None:
        """Raises AuditUnavailable; any other failure is an answer, too."""
        for request in self._comparisons.expired(self._clock.now()):
            self._burn(request.keys)
            self._comparisons.forget(request.request_id)
        for request in self._comparisons.unanswered():
            self._comparisons.answer(request.request_id, self._answer(request))

    def _answer(self, request: OpenComparison) -> ComparisonAnswer:
        place = self._places.get(request.policy)
        if place is None:
            return ComparisonAnswer(trouble=f"policy {request.policy} is not in this site's file")
        try:
            seen = self._looking.see(place, request.generations)
            look = seen.look(lambda generation: self._one_time_key(request.keys, generation))
        except (SinkError, DeliveryError) as error:
            log.warning("comparing the KMS for %s: %s", request.policy, error)
            return ComparisonAnswer(trouble=str(error))
        finally:
            self._burn(request.keys)
        for finding in look.findings:
            log.error("comparing the KMS for %s: %s", request.policy, finding)
        return ComparisonAnswer(look=look)

    def _one_time_key(
        self, keys: Mapping[Generation, KeyId], generation: Generation
    ) -> bytes | None:
        """Burnt before it is used. Raises KeyNotFound when a try before this one burnt it."""
        key_id = keys.get(generation)
        if key_id is None:
            return None
        try:
            secret = self._allocations.read_held(key_id).secret
        except KeyNotFound as error:
            raise KeyNotFound(f"the one-time key {key_id} is burnt: ask again") from error
        self._allocations.drop_held(key_id, burnt=True)
        return secret

    def _burn(self, keys: Mapping[Generation, KeyId]) -> None:
        for key_id in keys.values():
            self._allocations.drop_held(key_id, burnt=True)
