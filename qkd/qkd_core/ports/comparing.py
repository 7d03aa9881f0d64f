"""Comparisons of the two key management systems at one site, and the other site's part in them."""

from typing import Protocol

from qkd_core.types.comparing import (
    Comparison,
    ComparisonAnswer,
    ComparisonRequest,
    OpenComparison,
)
from qkd_core.types.ids import KeyId


class ComparisonStore(Protocol):
    """What one site knows of comparisons: the newest of each policy, and the peer's requests."""

    def newest(self, policy: str) -> Comparison:
        """As a new policy's when there was none."""

    def record(self, comparison: Comparison) -> None:
        """It is the newest of its policy, and came to an end: audited."""

    def note_late(self, policy: str, trouble: str) -> None:
        """A try was held up. Written when it is news; the next `record` ends it."""

    def ask(self, request: OpenComparison) -> tuple[KeyId, ...]:
        """Keep the peer's request in place of an earlier one of its policy.

        Returns the one-time keys of the earlier one. Idempotent for the same request.
        """

    def request(self, request_id: str) -> OpenComparison | None: ...

    def unanswered(self) -> tuple[OpenComparison, ...]:
        """Oldest first."""

    def answer(self, request_id: str, answer: ComparisonAnswer) -> None:
        """Nothing happens when the request is gone, or answered."""

    def forget(self, request_id: str) -> None:
        """The initiator has concluded. Idempotent."""

    def expired(self, now: float) -> tuple[OpenComparison, ...]:
        """Requests that nobody waits for any more."""


class ComparisonPeer(Protocol):
    """The other site as the follower of a policy. Each call raises PeerUnavailable, PeerViolation.

    All three are idempotent.
    """

    def ask(self, request: ComparisonRequest) -> None:
        """Raises ComparisonRefused: the policy is unknown there or different, or a key is."""

    def answer(self, request_id: str) -> ComparisonAnswer | None:
        """None while there is none. Raises ComparisonRefused when the request is not known."""

    def conclude(self, request_id: str, comparison: Comparison) -> None:
        """Tell what came of it; a request that is not known any more was concluded before."""
