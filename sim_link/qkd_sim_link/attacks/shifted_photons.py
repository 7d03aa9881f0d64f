"""Time shift on pairs: Eve delays one photon of each pair, and so favours a detector.

A detector's photon counts when its partner is found within the window; where the gates or the
windows of two detectors do not agree, an early photon counts for one rather than for the other.
She tosses a coin for each photon, as `attacks.time_shift` does for each pulse: no bit becomes
wrong, and she has a good guess of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.attacks.truth import OverheardClicks, TruthSink
from qkd_sim_link.sampling.event import Clicks


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftedPhotons:
    """A `PairEve` (`attacks.eve`) on the fibre to ``side``.

    shift_ps  by which photons come too early or too late
    mismatch  efficiency of the detector that is not favoured over that of the favoured one
    """

    side: Side
    shift_ps: float
    mismatch: float
    sink: TruthSink[OverheardClicks]

    def tampered_pairs(
        self,
        block_id: BlockId,
        clicks: Mapping[Side, Clicks],
        settings: PairSettings,
        rng: np.random.Generator,
    ) -> Mapping[Side, Clicks]:
        """The same clicks at other times, the coins drawn from them: see `TimeShift.tampered`."""
        time_ps, detector = clicks[self.side]
        wrong = rng.random(time_ps.size) >= 1 / (1 + self.mismatch)
        favoured = detector ^ wrong.astype(np.uint8)
        late = 2.0 * (favoured & np.uint8(1)) - 1
        moved = time_ps + np.rint(late * self.shift_ps).astype(np.int64)
        order = np.argsort(moved, kind="stable")
        self.sink.note(block_id, OverheardClicks(moved[order], favoured[order]))
        return {**clicks, self.side: (moved[order], detector[order])}
