"""What a site's metrics, progress display and status are made of."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.ids import BlockId, LinkId, SaeId


@dataclass(frozen=True, slots=True)
class OldestEpoch:
    """The oldest data key that still exists: what was sealed since ``created_at`` may be recovered
    by whoever has the root key and old copies of the file."""

    epoch: int
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFigures:
    """Read from the store in one transaction; counts since the store began.

    blocks      by outcome: ``available``, ``pending``, or the error class that ended the block
    qber        of the newest stored block, None before the first
    link_s      seconds of link time of the stored blocks
    free_bytes  stored bytes not allocated, by owner's side
    refreshes   runs by (policy, state)
    policies    each refresh policy that the store knows of
    pool_pads   pads left by (sender's side, lane name)
    paused      the link waits because the store is full
    alarms      by kind, since the store began
    entanglement   of the newest stored block, if it is of pairs
    pair_light     of the newest block of pairs whose light was looked at, also of one that was
                   dropped later
    reconciled_at  when the records were last compared with the peer's; None before that
    """

    blocks: dict[str, int]
    qber: float | None
    secret_bits: int
    link_s: float
    free_bytes: dict[str, int]
    keys_delivered: int
    refreshes: dict[tuple[str, str], int]
    policies: "dict[str, PolicyFigures]" = field(default_factory=dict)
    pool_pads: dict[tuple[str, str], int]
    last_discard: str | None = field(default=None)
    paused: bool = False
    orphaned_keys: int = 0
    alarms: dict[str, int] = field(default_factory=dict)
    oldest_epoch: OldestEpoch | None = None
    reconciled_at: int | None = None
    audit: "AuditFigures | None" = None
    witness: "WitnessFigures | None" = None
    epsilon: "EpsilonFigures | None" = None
    entanglement: "Entanglement | None" = None
    pair_light: "PairLight | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entanglement:
    """Of one block: point estimates; ``chsh_sigma`` is a standard deviation."""

    key_qber: float
    test_qber: float
    fidelity_min: float
    chsh: float
    chsh_sigma: float

    def __str__(self) -> str:
        return (
            f"QBER {self.key_qber:.2%} in the key basis, {self.test_qber:.2%} in the test basis;"
            f" fidelity at least {self.fidelity_min:.4f},"
            f" S {self.chsh:.4f} +- {self.chsh_sigma:.4f}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Coincidences:
    """Of one block of pairs.

    rate_hz     coincidences, per second of the block, in all bases
    accidental  the fraction of them that is accidental, as lags far from zero say
    missed      the fraction of the true ones that is outside the window, as lags beside it say
    offset_s, drift_ppm  Bob's clock minus Alice's when the block began, and how it changes
    """

    rate_hz: float
    accidental: float
    missed: float
    offset_s: float
    drift_ppm: float

    @property
    def car(self) -> float | None:
        """True coincidences over accidental ones; None where none is accidental."""
        return (1 - self.accidental) / self.accidental if self.accidental else None

    def __str__(self) -> str:
        return (
            f"{self.rate_hz:.1f} coincidences/s, {self.accidental:.2%} accidental,"
            f" {self.missed:.2%} missed; the peer's clock {self.offset_s:+.9f} s,"
            f" {self.drift_ppm:+.5f} ppm"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLight:
    """What one end saw in a block of pairs: for people, never for a key length.

    rate_hz         clicks of its live detectors in a second
    double_clicks   events with clicks of several detectors, and how many come by chance
    coincidences    at side A, which finds them
    """

    block_id: BlockId
    rate_hz: float
    double_clicks: int
    double_clicks_expected: float
    coincidences: Coincidences | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "PairLight":
        """From what `as_fields` gave."""
        found = fields["coincidences"]
        return cls(**{**fields, "coincidences": None if found is None else Coincidences(**found)})

    def as_fields(self) -> dict[str, Any]:
        return asdict(self)

    def told(self) -> dict[str, Any]:
        """For a status: with the ratio of true coincidences to accidental ones."""
        found = self.coincidences
        car = {} if found is None else {"coincidences": {**asdict(found), "car": found.car}}
        return self.as_fields() | car

    def __str__(self) -> str:
        return (
            f"{self.rate_hz:.0f} clicks/s, {self.double_clicks} events of several detectors,"
            f" {self.double_clicks_expected:.1f} expected"
            + ("" if self.coincidences is None else f"; {self.coincidences}")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """How a refresh policy stands at this site.

    generation    that is active, 0 before the first
    active_since  when it became that, in seconds since 1970
    newest        state of the newest run; None before the first
    under_way     state of the newest run that is not over, ``blocked`` among them
    late          a passing failure holds it up
    refused       it does not run until people act
    paused        no new run begins here
    """

    generation: int = 0
    active_since: float | None = None
    newest: str | None = None
    under_way: str | None = None
    late: bool = False
    refused: bool = False
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessFigures:
    """How the site stands with its peer's witness, and what unclean ends have cost so far.

    state              of this site; only ``open`` acts
    peer_state         as the peer told last
    bytes_passed_over  of this site's half, and of its pads, that were perhaps used and are burnt
    keys_burnt         that were perhaps consumed, at either site
    """

    state: str
    peer_state: str
    bytes_passed_over: int
    pads_passed_over: int
    keys_burnt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonFigures:
    """What a link has cost since its pre-shared secret came: see `proofs.ledger`.

    blocks, tags  in epsilon, and ``total`` of both: none is below its exact sum
    since         when the secret came, in seconds since 1970; None before that
    limits        in force; ``alarmed``: that of the alarm is reached
    exhausted     one more block would pass the limit: none is begun
    """

    link_id: LinkId
    n_blocks: int
    blocks: float
    n_tags: int
    tags: float
    total: float
    since: float | None
    limits: EpsilonLimits
    alarmed: bool
    exhausted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFigures:
    """How the audit stands.

    writable       records are taken; while they are not, nothing is delivered
    signed         how many records the newest checkpoint covers
    countersigned  how many of them the other site stands for
    """

    writable: bool
    signed: int
    countersigned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLevel:
    """This site's half of the stored bytes, and how it moved of late.

    filled_bytes_per_s   by recent blocks; 0 when there was none
    drained_bytes_per_s  by recent keys, of whichever master
    drawn_bytes          by master, over the window in which shares of the pool are counted
    """

    free_bytes: int
    filled_bytes_per_s: float
    drained_bytes_per_s: float
    drawn_bytes: Mapping[SaeId, int]
