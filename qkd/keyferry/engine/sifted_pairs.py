"""Either end of a link whose device sifts for itself: what is left here is a look at its bits.

What a monitor of time tags would find, double clicks, rates, arrival times, is the device's to
watch for. One sign of a dead or a blinded detector is left in the bits: that one of them prevails.
"""

from dataclasses import dataclass

import numpy as np

from qkd_core.photons.monitors import require_balanced
from qkd_core.ports import ClassicalChannel, PairDevice
from qkd_core.ports.link import Outcomes
from qkd_core.types.bits import PackedBits, wipe
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.monitors import PairMonitorSettings
from qkd_core.types.plans import PairSettings

TAILS = 4  # of the balance: of either basis on either side


@dataclass(slots=True, kw_only=True)
class SiftedEnd:
    """A device's sifted bits, to which no monitor objects (`PairDevice`).

    monitors  of which the balance alone can be looked at; None for none
    """

    device: PairDevice
    monitors: PairMonitorSettings | None = None

    @property
    def provenance(self) -> Provenance:
        return self.device.provenance

    def arm(self, block_id: BlockId, settings: PairSettings) -> None:
        self.device.arm(block_id, settings)

    def outcomes(self, block_id: BlockId, channel: ClassicalChannel) -> Outcomes:
        """As `PairDevice`; MonitorTripped, and the bits are wiped then."""
        found = self.device.outcomes(block_id, channel)
        if self.monitors is None or self.monitors.balance_share is None:
            return found
        counts = np.array([*_counts(found.key, found.n_key), *_counts(found.test, found.n_test)])
        try:
            require_balanced(counts, self.monitors.balance_share, self.monitors.false_alarm / TAILS)
        except BaseException:
            wipe(found.key)
            wipe(found.test)
            raise
        return found


def _counts(words: PackedBits, n_bits: int) -> tuple[int, int]:
    """How many bits are 0 and 1: clicks of either detector of the basis."""
    ones = int(np.bitwise_count(words).sum())
    return n_bits - ones, ones
