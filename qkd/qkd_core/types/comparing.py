"""What two sites find when they compare what stands in their key management systems."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from qkd_core.types.ids import Generation, KeyId, SaeId, Side
from qkd_core.types.keys import Allocation

ONE_TIME_BITS = 256
DIGEST_BYTES = 16
COMPARE_SAE = SaeId("compare/kms")  # no SAE can be configured with such a name


class FindingKind(StrEnum):
    """One way in which a KMS is not as the runs left it."""

    MISSING = "missing"
    OVERLAID = "overlaid"
    MOVED = "moved"
    UNKNOWN = "unknown"
    UNRECORDED = "unrecorded"
    UNEQUAL = "unequal"


SAID: Mapping[FindingKind, str] = {
    FindingKind.MISSING: "is gone from the KMS: deleted, destroyed, or the KMS was put back",
    FindingKind.OVERLAID: "is covered by a newer version that is no newer generation",
    FindingKind.MOVED: "stands under another native version than this service gave it",
    FindingKind.UNKNOWN: "stands in the KMS, and no run here made it",
    FindingKind.UNRECORDED: "is active at the initiator and not in this site's store",
    FindingKind.UNEQUAL: "has other bytes at one site than at the other",
}
"""What each says of its generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``side``: whose KMS it is about; None: that of both, between which there is a difference."""

    kind: FindingKind
    generation: Generation
    side: Side | None

    def __str__(self) -> str:
        where = "both sites" if self.side is None else f"site {self.side}"
        return f"{where}: generation {self.generation} {SAID[self.kind]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsLook:
    """What one site saw in its own KMS, for the other one; no native versions, no bytes.

    readable  whether the KMS shows key bytes at all
    digests   keyed fingerprints of the bytes that stand there, by generation
    """

    findings: tuple[Finding, ...]
    readable: bool
    digests: Mapping[Generation, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonAnswer:
    """What the follower says to a request: a look, or (``trouble``) why there is none now."""

    look: KmsLook | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRequest:
    """The initiator asks the follower to look into its KMS.

    generations  rising; the last one is active
    keys         one-time keys of the fingerprints; empty when the initiator's KMS shows no bytes
    """

    request_id: str
    policy: str
    policy_digest: str
    generations: tuple[Generation, ...]
    keys: Mapping[Generation, Allocation]
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenComparison:
    """A request as the follower keeps it until the initiator has concluded, or it expires."""

    request_id: str
    policy: str
    generations: tuple[Generation, ...]
    keys: Mapping[Generation, KeyId]
    expires_at: float
    answer: ComparisonAnswer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The newest comparison of a policy, as either site has it.

    compared_at     of the newest that came to an end; 0 before the first
    generations     that were compared, rising; the last one was active
    bytes_compared  those of them whose bytes were compared, too
    ordered_for     the active generation that was to be superseded for what was found
    trouble         what held up a later try; not a finding
    """

    policy: str
    compared_at: float = 0.0
    generations: tuple[Generation, ...] = ()
    bytes_compared: tuple[Generation, ...] = ()
    findings: tuple[Finding, ...] = ()
    ordered_for: Generation | None = None
    trouble: str | None = None

    @property
    def verdict(self) -> str:
        """In one word or two, for a table."""
        if not self.compared_at:
            return "not compared"
        return "differ" if self.findings else "same"
