"""One block on its way from detections to secret bits."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qkd_core.types.bits import PackedBits, frozen_bits
from qkd_core.types.evaluation import Evaluation
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import BlockPlan, Counts, digest, digest_of_json
from qkd_core.types.reconciliation import Disclosed, Effort
from qkd_core.types.vendor import VendorTallies

CERTIFICATE_FORMAT = "keyferry-block-certificate/1"


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """One end's clicks of one block, in time order.

    time_ps   int64[n]: of pulses, since the block's first slot began; of pairs, by this end's clock
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
    intensity  uint8[n], 0 signal, 1 decoy, 2 near vacuum if there is one; empty at Bob
    """

    block_id: BlockId
    slot: npt.NDArray[np.int64]
    basis: npt.NDArray[np.uint8] = field(repr=False)
    bit: npt.NDArray[np.uint8] = field(repr=False)
    intensity: npt.NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallies:
    """Integer counts per basis and intensity after sifting; equal at both ends.

    Of a `DecoyPlan`.
    """

    n_pulses: int
    key_counts: Counts
    test_counts: Counts
    test_errors: Counts

    @property
    def digest(self) -> str:
        return digest(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTallies:
    """Integer counts after sifting, of a `PairPlan`; equal at both ends."""

    n_key: int
    n_test: int
    test_errors: int

    @property
    def digest(self) -> str:
        return digest(self)


AnyTallies = Tallies | PairTallies | VendorTallies


@dataclass(frozen=True, slots=True, eq=False)
class SiftedKey:
    """The key-basis bits of equal bases, and the tallies of everything that was announced."""

    block_id: BlockId
    bits: PackedBits = field(repr=False)
    n_bits: int
    tallies: AnyTallies

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", frozen_bits(self.bits))


@dataclass(frozen=True, slots=True, eq=False)
class ReconciledKey:
    """The sifted key after error correction, equal on both sides except with ``eps_cor``.

    ``disclosed``: what both ends have announced. ``n_errors``: bits that were corrected, those that
    comparing found in a frame that was told whole included. Of such a frame of Cascade only the
    end that corrects it knows them; the other one counts what was flipped before.
    """

    block_id: BlockId
    bits: PackedBits = field(repr=False)
    n_bits: int
    disclosed: Disclosed
    n_errors: int
    effort: Effort

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
    evaluation: Evaluation
    tallies: AnyTallies
    disclosed: Disclosed
    n_errors: int
    n_sifted: int
    effort: Effort
    key: SecretKey

    @property
    def leak_ec(self) -> int:
        return self.plan.leak_ec(self.disclosed)

    def certificate(self) -> dict[str, Any]:
        """What anyone may know of the block, and derive again from it; no key bits.

        Bounds and epsilons are those of the theorem on the plan's thresholds; ``digest`` is over
        everything else.
        """
        told = {
            "format": CERTIFICATE_FORMAT,
            "theorem": {"name": self.evaluation.theorem, "version": self.evaluation.version},
            "plan": self.plan.as_json(),
            "plan_digest": self.plan.digest,
            "tallies": asdict(self.tallies),
            "tallies_digest": self.tallies.digest,
            "disclosed": asdict(self.disclosed),
            "leak_ec": self.leak_ec,
            "n_errors": self.n_errors,
            "n_sifted": self.n_sifted,
            "n_secret": self.key.n_bits,
            "bounds": self.evaluation.bounds,
            "ledger": [asdict(spent) for spent in self.evaluation.ledger],
            "provenance": self.plan.provenance.value,
        }
        return told | {"digest": digest_of_json(told)}
