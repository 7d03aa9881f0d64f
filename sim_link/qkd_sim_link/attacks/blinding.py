"""Blinding: Eve measures like Bob, and bright light makes his detectors click as hers did.

Continuous light puts the detectors into a mode in which only a bright pulse makes them click. She
sends one in the state that she found: in her basis it reaches one detector whole, and that one
clicks; in the other basis each gets half of it, and none does. Measuring at Alice's door she
finds light in plenty, so that Bob's clicks come as often as ever; their errors are hers, as many
as his would be. She knows every bit. Source: Lydersen et al., Nature Photonics 4, 686 (2010).
"""

from dataclasses import dataclass

import numpy as np

from qkd_core.types.ids import BlockId
from qkd_sim_link.attacks.truth import Overheard, TruthSink
from qkd_sim_link.sampling.event import Clicks


@dataclass(frozen=True, slots=True, kw_only=True)
class Blinding:
    """An Eve (`attacks.eve`)."""

    sink: TruthSink[Overheard]
    blinds: bool = True

    def tampered(
        self, block_id: BlockId, clicks: Clicks, period_ps: float, rng: np.random.Generator
    ) -> Clicks:
        """The clicks of a healthy link, as those that she found and sent on.

        Where her two detectors clicked she sends what the earlier one saw.
        """
        time_ps, detector = clicks
        slot, first = np.unique(np.floor(time_ps / period_ps).astype(np.int64), return_index=True)
        sent = detector[first]
        self.sink.note(block_id, Overheard(slot, sent & np.uint8(1)))
        return time_ps[first], sent
