"""Every error that is raised on purpose.

The split is by what the caller does next: retry (`LinkError`, `ChannelError`, `PeerUnavailable`,
`SinkUnavailable`), drop the block (`BlockDiscarded`), refuse the request (`DeliveryError`,
`SinkRejected`), or stop (`AuthenticationPoolExhausted`, `EpsilonSpent`, `EntropyFailed`,
`AuditUnavailable`, `ConfigError`).
Messages carry the value and the limit, never key bytes.
"""


class QkdError(Exception):
    """The root of the tree; one readable line."""


class ConfigError(QkdError):
    """A setting is missing, unknown or out of range: what, where, and what is allowed."""


class LinkError(QkdError):
    """The quantum link cannot deliver detections."""


class LinkDown(LinkError):
    """The device or its driver does not answer; trying again later may help."""


class ChannelError(QkdError):
    """The classical channel broke, timed out, or carried something malformed."""


class Silent(ChannelError):
    """The peer's engine said nothing in time; the connection is as good as before."""


class BlockDiscarded(QkdError):
    """One block yields no key; the next one may. Caught in the link loop only."""


class NotAccepted(BlockDiscarded):
    """A tally is outside the plan; an eavesdropper is possible."""

    def __init__(self, what: str, value: float, limit: float) -> None:
        super().__init__(f"{what} is {value:.6g}, the plan allows {limit:.6g}")
        self.what, self.value, self.limit = what, value, limit


class MonitorTripped(BlockDiscarded):
    """The clicks are not those of an untouched device: which monitor says so, value and limit."""

    def __init__(self, monitor: str, value: float, limit: float) -> None:
        super().__init__(f"monitor {monitor}: {value:.6g}, the limit is {limit:.6g}")
        self.monitor, self.value, self.limit = monitor, value, limit


class PlanRefused(BlockDiscarded):
    """No key can be planned, or the peer's plan is not what this site would accept."""


class ReconciliationFailed(BlockDiscarded):
    """Error correction gave up within the leak budget."""


class ClockNotFound(BlockDiscarded):
    """The events of the two ends of a link of pairs have no peak of coincidences in common."""


class VendorKeysRefused(BlockDiscarded):
    """A vendor's box gave other keys than were asked for: others, fewer, more, or one twice."""


class VerificationFailed(BlockDiscarded):
    """The verification hashes differ: the corrected keys are not equal."""


class AuthenticationFailed(BlockDiscarded):
    """A tag does not match its message."""


class ProvenanceRefused(BlockDiscarded):
    """The link's provenance is not in this site's ``accept_provenance``."""


class KeyNotRandom(BlockDiscarded):
    """A key fails a health test: something that made it is broken."""

    def __init__(self, test: str, value: float, limit: float) -> None:
        super().__init__(f"the key fails the test {test}: {value:.7g}, the limit is {limit:.7g}")
        self.test, self.value, self.limit = test, value, limit


class StoreFull(BlockDiscarded):
    """The store has no room for the block: the bytes stored and the limit."""


class PeerAborted(BlockDiscarded):
    """The other site discarded the block and said why."""


class AuthenticationPoolExhausted(QkdError):
    """No pad is left for a tag: the link stops until it is rekeyed."""


class EpsilonSpent(QkdError):
    """One more block would pass the site's limit: the link stops until it is rekeyed."""


class EntropyFailed(QkdError):
    """The source of randomness fails a health test: nothing is drawn from it any more."""

    def __init__(self, test: str, value: float, limit: float) -> None:
        super().__init__(
            f"the source of randomness fails the test {test}: {value:.7g},"
            f" the limit is {limit:.7g}; nothing is drawn from it any more"
        )
        self.test, self.value, self.limit = test, value, limit


class DeliveryError(QkdError):
    """A request for keys was not met; nothing was consumed."""


class BadKeyRequest(DeliveryError):
    """The request itself is wrong: the value and the limit."""


class NotAuthorised(DeliveryError):
    """The SAE may not have this key."""


class KeyNotFound(DeliveryError):
    """A key ID is unknown, expired or consumed; ``reason`` says which.

    ``reason`` is None for an SAE that was never entitled to the key.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class KeysExhausted(DeliveryError):
    """Not enough key is stored; ``retry_after_s`` is a forecast."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverQuota(DeliveryError):
    """The SAE has had as much as its quota allows for now; ``retry_after_s`` says when to ask."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PeerUnavailable(DeliveryError):
    """The other site's KME cannot be reached; trying again later may help."""


class PeerSilent(PeerUnavailable):
    """The other site's KME did not answer at all, in the time it had."""


class PeerViolation(DeliveryError):
    """The other KME claims something that its rules forbid; the block is burnt."""


class RefreshRefused(DeliveryError):
    """The other site will never run this refresh, and says why; the key is burnt."""


class ComparisonRefused(DeliveryError):
    """The other site does not compare this policy's KMS with ours, and says why."""


class Fenced(QkdError):
    """Another process took the lead over this site's refresh runs: this one writes no more."""


class MoveRefused(QkdError, ValueError):
    """A refresh run is no longer in the state from which it was to be moved."""


class RolledBack(DeliveryError):
    """This site's store is older than what its peer remembers: it delivers nothing."""


class AuditUnavailable(QkdError):
    """The audit record cannot be written, so the effect does not happen."""


class NotProved(QkdError):
    """A signature or a proof of the audit does not show what it claims."""


class CollectorUnavailable(QkdError):
    """The collector of audit records does not take them now; they are sent again."""


class ConsumerUnavailable(QkdError):
    """A consumer of refreshed keys does not take a message now; it is sent again."""


class ConsumerGone(QkdError):
    """A consumer of refreshed keys wants no message any more."""


class StoreDamaged(QkdError):
    """Sealed bytes do not open: the store was altered, or parts of it are of different age."""


class SinkError(QkdError):
    """A key management system did not take a key."""


class SinkUnavailable(SinkError):
    """Down, sealed, overloaded or silent: trying again later may help."""


class SinkRejected(SinkError):
    """Refused for good: denied, or the path is wrong."""


class GenerationConflict(SinkRejected):
    """Other bytes already stand under this generation; they are never overwritten."""
