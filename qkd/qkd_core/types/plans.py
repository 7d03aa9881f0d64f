"""What is agreed about a block before it is made: settings, policy and plan."""

from dataclasses import asdict, dataclass
from enum import Enum
from hashlib import sha256
from json import dumps
from math import isclose
from typing import Any

from qkd_core.errors import ConfigError
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.reconciliation import Disclosed, Reconciliation

Counts = tuple[int, ...]  # one count per intensity: signal, decoy, and near vacuum if there is one
ONE_DECOY, TWO_DECOYS = 2, 3  # intensities


class LinkKind(Enum):
    """What a link carries, as theorems tell it apart; the value is for people."""

    ONE_DECOY = "decoy pulses of two intensities"
    TWO_DECOYS = "decoy pulses of three intensities"
    PAIRS = "entangled pairs"
    VENDOR_KEYS = "keys of a vendor's box"


def digest(noun: object) -> str:
    """SHA-256, in hex, of a dataclass without secrets: sorted JSON, floats as repr gives them."""
    return digest_of_json(asdict(noun))  # type: ignore[call-overload]


def digest_of_json(value: dict[str, Any]) -> str:
    return sha256(dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoySettings:
    """What both ends must agree on about the pulses: a signal and one or two decoys.

    Intensities are mean photon numbers. With two decoys mu1 > mu2 + mu3 and mu2 > mu3 >= 0 (Lim et
    al. 2014, section II), with one mu1 > mu2 > 0 (Rusca et al. 2018). The key comes from the basis
    that is chosen with ``p_key_basis`` by both ends, the test from the other one.
    """

    clock_hz: float
    n_pulses: int
    intensities: tuple[float, ...]
    probabilities: tuple[float, ...]
    p_key_basis: float

    def __post_init__(self) -> None:
        _refuse_unordered(self.intensities)
        if len(self.probabilities) != len(self.intensities):
            raise ConfigError(
                f"probabilities {self.probabilities}: {len(self.intensities)}, as many as"
                " intensities"
            )
        if min(self.probabilities) <= 0 or not isclose(sum(self.probabilities), 1):
            raise ConfigError(f"probabilities {self.probabilities}: positive, with the sum 1")
        if not 0 < self.p_key_basis < 1:
            raise ConfigError(f"p_key_basis {self.p_key_basis}: between 0 and 1, both excluded")
        if self.n_pulses < 1 or self.clock_hz <= 0:
            raise ConfigError(f"n_pulses {self.n_pulses}, clock_hz {self.clock_hz}: positive")

    @property
    def link_s(self) -> float:
        """How long a block takes on the link, in seconds."""
        return self.n_pulses / self.clock_hz

    @property
    def kind(self) -> LinkKind:
        one = len(self.intensities) == ONE_DECOY
        return LinkKind.ONE_DECOY if one else LinkKind.TWO_DECOYS


def _refuse_unordered(intensities: tuple[float, ...]) -> None:
    """Raise ConfigError unless one or two decoys are dimmer than the signal."""
    match intensities:
        case (mu1, mu2, mu3):
            if not (mu1 > mu2 + mu3 and mu2 > mu3 >= 0):
                raise ConfigError(f"intensities {intensities}: mu1 > mu2 + mu3, mu2 > mu3 >= 0")
        case (mu1, mu2):
            if not mu1 > mu2 > 0:
                raise ConfigError(f"intensities {intensities}: mu1 > mu2 > 0")
        case _:
            raise ConfigError(f"intensities {intensities}: {ONE_DECOY} or {TWO_DECOYS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPolicy:
    """What one block may cost in secrecy, correctness and aborts."""

    eps_sec: float
    eps_cor: float
    abort_rate: float

    def __post_init__(self) -> None:
        for name in ("eps_sec", "eps_cor", "abort_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)}: between 0 and 1, both excluded")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkModel:
    """What the planner expects of a link, per pulse and per intensity, in equal bases.

    ``gain[k]``: probability that a pulse of intensity k gives a click that is kept (dead time
    included). ``qber[k]``: error probability of such a click. From the link's physics or from
    earlier blocks, never from the block that is planned. ``spread``: standard deviation of a
    block's light, as a part of its mean, where the link itself is not the same in each block.
    """

    gain: tuple[float, ...]
    qber: tuple[float, ...]
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.spread < 1:
            raise ConfigError(f"spread {self.spread}: from 0 up to 1, which is excluded")
        if len(self.gain) != len(self.qber):
            raise ConfigError(f"gain {self.gain}, qber {self.qber}: one of each per intensity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Counts that the plan accepts, both ends included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """What both ends must agree on about entangled pairs: BBM92, Tomamichel et al. 2012.

    link_s         a block is so many seconds of time tags at each end, by that end's clock
    window_ps      two events are a coincidence when at most half of it apart; the clicks of one
                   end within it are one event
    hold_off_ps    an event needs so long without any click before it, so that all detectors of
                   its end were live: at least their dead time
    resolution_ps  of the times that are announced
    """

    link_s: float
    window_ps: int
    hold_off_ps: int
    resolution_ps: int

    def __post_init__(self) -> None:
        if not self.link_s > 0:
            raise ConfigError(f"link_s {self.link_s}: positive")
        if not 1 <= self.resolution_ps <= self.window_ps < self.hold_off_ps:
            raise ConfigError(
                f"resolution_ps {self.resolution_ps}, window_ps {self.window_ps}, hold_off_ps"
                f" {self.hold_off_ps}: rising from 1, the last two not equal"
            )

    @property
    def kind(self) -> LinkKind:
        return LinkKind.PAIRS


@dataclass(frozen=True, slots=True, kw_only=True)
class PairModel:
    """What the planner expects of a link of pairs, in coincidences of equal bases.

    Rates are per second of the link, error rates of the key and of the test basis. From the
    link's physics or from earlier blocks, never from the block that is planned.
    """

    key_rate_hz: float
    test_rate_hz: float
    key_qber: float
    test_qber: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """What is agreed before the first pulse; the block is accepted by it or dropped.

    ``n_secret`` holds for every outcome inside the thresholds. ``config_digest`` is the digest
    of the shared settings of both sites. ``segment_bits`` of the ``n_secret`` bits refill the
    authentication pool, the rest are split between the two KMEs (see `BlockLayout`). Plans are
    `DecoyPlan`, `PairPlan`, and `VendorPlan` of `types.vendor`.
    """

    block_id: BlockId
    link_id: LinkId
    theorem: str
    policy: SecurityPolicy
    reconciliation: Reconciliation
    qber_expected: float
    leak_ec_max: int
    n_secret: int
    segment_pads: int
    provenance: Provenance
    config_digest: str

    @property
    def digest(self) -> str:
        return digest(self)

    @property
    def kind(self) -> LinkKind:
        raise NotImplementedError

    @property
    def n_key_max(self) -> int:
        """The most key bits before amplification."""
        raise NotImplementedError

    @property
    def link_s(self) -> float:
        """About how long the link works for the block, in seconds."""
        raise NotImplementedError

    def leak_ec(self, disclosed: Disclosed) -> int:
        """How much of what error correction has announced the key has to pay for, in bits."""
        raise NotImplementedError

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoyPlan(BlockPlan):
    """A block of decoy pulses: Lim et al. 2014, Rusca et al. 2018; thresholds per intensity."""

    settings: DecoySettings
    key_counts: tuple[Interval, ...]
    test_counts: tuple[Interval, ...]
    test_errors_max: Counts

    def __post_init__(self) -> None:
        n = len(self.settings.intensities)
        for name in ("key_counts", "test_counts", "test_errors_max"):
            if len(getattr(self, name)) != n:
                raise ConfigError(f"{name} of {len(getattr(self, name))} intensities, not of {n}")

    @property
    def kind(self) -> LinkKind:
        return self.settings.kind

    @property
    def n_key_max(self) -> int:
        return sum(count.high for count in self.key_counts)

    @property
    def link_s(self) -> float:
        return self.settings.link_s

    def leak_ec(self, disclosed: Disclosed) -> int:
        """Both directions: Tupkary and Luetkenhaus, arXiv:2307.00576."""
        return disclosed.about_key + disclosed.about_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlan(BlockPlan):
    """A block of entangled pairs: see `proofs.bbm92`.

    The length holds for ``key_count.low`` bits of key and ``test_count_min`` of the test, and for
    more; ``key_count.high`` bounds the work and the hash.
    """

    settings: PairSettings
    key_count: Interval
    test_count_min: int
    test_errors_max: int

    @property
    def kind(self) -> LinkKind:
        return self.settings.kind

    @property
    def n_key_max(self) -> int:
        return self.key_count.high

    @property
    def link_s(self) -> float:
        return self.settings.link_s

    def leak_ec(self, disclosed: Disclosed) -> int:
        """Of the key only: the theorem gives away the whole pattern of the errors."""
        return disclosed.about_key
