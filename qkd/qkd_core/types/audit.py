"""What two sites tell each other about their audit logs: keys and records, never key bytes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key of a site's log, base64; ``endorsement`` by key ``number - 1``, empty: none."""

    number: int
    public_key: str
    endorsement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOffer:
    """A site asks the other one to countersign a checkpoint.

    note      the signed checkpoint
    old_size  the head that the other site last signed, as far as the asker knows; 0 for none
    proof     of consistency from there
    """

    note: str
    old_size: int
    proof: tuple[bytes, ...]
    keys: tuple[SigningKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Countersigned:
    """The other site stands for the checkpoint: ``line`` is its signature line."""

    line: str
    keys: tuple[SigningKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherHead:
    """The other site last signed another head than the offer says: ``note``, of ``size``."""

    size: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCountersigned:
    """The offer does not follow from what was signed before; an alarm at both sites."""

    reason: str


CheckpointAnswer = Countersigned | OtherHead | NotCountersigned


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRecord:
    """One record of a log, and the proof that the checkpoint beside it covers it.

    line   the record as canonical JSON, hash and MAC included
    index  its number in the whole log; None: not yet covered, and there is no proof
    """

    line: str
    index: int | None
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecords:
    """All records of one site that name a key; ``note`` is empty before the first checkpoint."""

    kme_id: str
    records: tuple[ShownRecord, ...]
    note: str
    countersignature: str
    keys: tuple[SigningKey, ...]


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where the next page of a log begins; what a checkpoint covers never changes its place.

    size   records that the checkpoint covers up to which the log is shown
    part   which kind of line
    after  the number of the last line of this kind on the page before; -1 for none
    """

    size: int
    part: int
    after: int


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines of an audit bundle; ``following`` is None on the last page."""

    lines: tuple[str, ...]
    following: LogPlace | None
