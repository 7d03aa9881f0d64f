"""One block on its way from detections to secret bits."""

from dataclasses import asdict, dataclass, field
from hashlib import sha256
from json import dumps
from math import isclose
from typing import Any

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError
from qkd_core.types.bits import PackedBits, frozen_bits
from qkd_core.types.ids import BlockId, LinkId, Provenance

Counts = tuple[int, int, int]  # one count per intensity: signal, decoy, near vacuum


def digest(noun: object) -> str:
    """SHA-256, in hex, of a dataclass without secrets: sorted JSON, floats as repr gives them."""
    text = dumps(asdict(noun), sort_keys=True, separators=(",", ":"))  # type: ignore[call-overload]
    return sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoySettings:
    """What both ends must agree on about the pulses: Lim et al. 2014, section II.

    Intensities are mean photon numbers, mu1 > mu2 + mu3 and mu2 > mu3 >= 0. The key comes from
    the basis that is chosen with ``p_key_basis`` by both ends, the test from the other one.
    """

    clock_hz: float
    n_pulses: int
    intensities: tuple[float, float, float]
    probabilities: tuple[float, float, float]
    p_key_basis: float

    def __post_init__(self) -> None:
        mu1, mu2, mu3 = self.intensities
        if not (mu1 > mu2 + mu3 and mu2 > mu3 >= 0):
            raise ConfigError(f"intensities {self.intensities}: mu1 > mu2 + mu3, mu2 > mu3 >= 0")
        if min(self.probabilities) <= 0 or not isclose(sum(self.probabilities), 1):
            raise ConfigError(f"probabilities {self.probabilities}: positive, with the sum 1")
        if not 0 < self.p_key_basis < 1:
            raise ConfigError(f"p_key_basis {self.p_key_basis}: between 0 and 1, both excluded")
        if self.n_pulses < 1 or self.clock_hz <= 0:
            raise ConfigError(f"n_pulses {self.n_pulses}, clock_hz {self.clock_hz}: positive")


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
    earlier blocks, never from the block that is planned.
    """

    gain: tuple[float, float, float]
    qber: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Counts that the plan accepts, both ends included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """What is agreed before the first pulse; the block is accepted by it or dropped.

    ``n_secret`` holds for every outcome inside the thresholds. ``config_digest`` is the digest
    of the shared settings of both sites. ``segment_bits`` of the ``n_secret`` bits refill the
    authentication pool, the rest are split between the two KMEs (see `BlockLayout`).
    """

    block_id: BlockId
    link_id: LinkId
    theorem: str
    settings: DecoySettings
    policy: SecurityPolicy
    key_counts: tuple[Interval, Interval, Interval]
    test_counts: tuple[Interval, Interval, Interval]
    test_errors_max: Counts
    qber_expected: float
    leak_ec_max: int
    n_secret: int
    segment_pads: int
    provenance: Provenance
    config_digest: str

    @property
    def digest(self) -> str:
        return digest(self)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Bob's clicks of one block, in time order.

    time_ps   int64[n], since the block's first pulse slot began
    detector  uint8[n], basis << 1 | bit (basis 0 is the key basis)
    """

    block_id: BlockId
    time_ps: npt.NDArray[np.int64]
    detector: npt.NDArray[np.uint8] = field(repr=False)
    provenance: Provenance


@dataclass(frozen=True, slots=True, eq=False)
class RawKey:
    """What one end knows of the shared events: its own settings or outcomes, nothing of the peer.

    slot       int64[n], ascending pulse indices
    basis      uint8[n], 0 is the key basis
    bit        uint8[n]
    intensity  uint8[n], 0 signal, 1 decoy, 2 near vacuum; empty at Bob
    """

    block_id: BlockId
    slot: npt.NDArray[np.int64]
    basis: npt.NDArray[np.uint8] = field(repr=False)
    bit: npt.NDArray[np.uint8] = field(repr=False)
    intensity: npt.NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallies:
    """Integer counts per basis and intensity after sifting; equal at both ends."""

    n_pulses: int
    key_counts: Counts
    test_counts: Counts
    test_errors: Counts

    @property
    def digest(self) -> str:
        return digest(self)


@dataclass(frozen=True, slots=True, eq=False)
class SiftedKey:
    """The key-basis bits of equal bases, and the tallies of everything that was announced."""

    block_id: BlockId
    bits: PackedBits = field(repr=False)
    n_bits: int
    tallies: Tallies

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", frozen_bits(self.bits))


@dataclass(frozen=True, slots=True, eq=False)
class ReconciledKey:
    """The sifted key after error correction, equal on both sides except with ``eps_cor``.

    ``leak_ec``: bits announced about the key by either side. ``n_errors``: bits corrected.
    """

    block_id: BlockId
    bits: PackedBits = field(repr=False)
    n_bits: int
    leak_ec: int
    n_errors: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", frozen_bits(self.bits))


@dataclass(frozen=True, slots=True, eq=False)
class SecretKey:
    """``n_bits`` bits that are ``eps_sec``-secret."""

    block_id: BlockId
    bits: PackedBits = field(repr=False)
    n_bits: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", frozen_bits(self.bits))


@dataclass(frozen=True, slots=True, eq=False)
class DistilledBlock:
    """The outcome of a block at one site: its secret bits and what they rest on."""

    plan: BlockPlan
    tallies: Tallies
    leak_ec: int
    n_errors: int
    n_sifted: int
    key: SecretKey

    def certificate(self) -> dict[str, Any]:
        """What anyone may know of the block: plan, tallies and length; no key bits."""
        return {
            "plan": self.plan.as_json(),
            "plan_digest": self.plan.digest,
            "tallies": asdict(self.tallies),
            "leak_ec": self.leak_ec,
            "n_errors": self.n_errors,
            "n_sifted": self.n_sifted,
            "n_secret": self.key.n_bits,
            "provenance": self.plan.provenance.value,
        }
