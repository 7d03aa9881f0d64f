"""Time shift: Eve moves pulses within the gate, where one detector is less sensitive.

Early light favours one detector of a basis, late light the other one: she tosses a coin for each
pulse and has then a good guess of the bit of each click. No bit becomes wrong, and what the
detectors lose she makes up for by a better fibre. Source: Qi, Fung, Lo and Ma, Quantum Inf.
Comput. 7, 73 (2007).
"""

from dataclasses import dataclass

import numpy as np

from qkd_core.types.ids import BlockId
from qkd_sim_link.attacks.truth import Overheard, TruthSink
from qkd_sim_link.sampling.event import Clicks


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeShift:
    """An Eve (`attacks.eve`).

    shift_ps  by which pulses come too early or too late
    mismatch  efficiency of the detector that is not favoured over that of the favoured one
    """

    shift_ps: float
    mismatch: float
    sink: TruthSink[Overheard]
    blinds: bool = False

    def tampered(
        self, block_id: BlockId, clicks: Clicks, period_ps: float, rng: np.random.Generator
    ) -> Clicks:
        """The same clicks at other times.

        With fair coins the click of a detector came from a pulse that favours it with probability
        1 / (1 + mismatch): so the coins are drawn from the clicks. Of a double click the earlier
        one decides.
        """
        time_ps, detector = clicks
        slot, first, of_slot = np.unique(
            np.floor(time_ps / period_ps).astype(np.int64), return_index=True, return_inverse=True
        )
        bit = detector[first] & np.uint8(1)
        right = rng.random(slot.size) < 1 / (1 + self.mismatch)
        favoured = np.where(right, bit, bit ^ np.uint8(1))
        self.sink.note(block_id, Overheard(slot, favoured))
        moved = time_ps + np.rint((2.0 * favoured[of_slot] - 1) * self.shift_ps).astype(np.int64)
        order = np.argsort(moved, kind="stable")
        return moved[order], detector[order]
