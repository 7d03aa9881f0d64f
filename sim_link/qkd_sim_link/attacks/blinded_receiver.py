"""Blinding of one receiver of pairs: Eve measures like it, and makes it click as her detectors did.

She sits at the source's door, finds as much light as ever comes, and sends bright pulses to a
receiver whose detectors see nothing else: see `attacks.blinding`. She knows each of its outcomes,
and the errors are those of her own measurement, as many as ever. Her pulses make one detector
click, so where two of hers clicked at once she sends what the earlier one saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.attacks.truth import OverheardClicks, TruthSink
from qkd_sim_link.sampling.event import Clicks


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindedReceiver:
    """A `PairEve` (`attacks.eve`) on the fibre to ``side``.

    kept  of her pulses, this fraction is sent on: less looks like a darker link
    """

    side: Side
    sink: TruthSink[OverheardClicks]
    kept: float = 1.0

    def tampered_pairs(
        self,
        block_id: BlockId,
        clicks: Mapping[Side, Clicks],
        settings: PairSettings,
        rng: np.random.Generator,
    ) -> Mapping[Side, Clicks]:
        """The clicks of a healthy link, as those that she found and sent on."""
        time_ps, detector = clicks[self.side]
        apart = np.diff(time_ps, prepend=time_ps[:1] - settings.window_ps - 1) > settings.window_ps
        sent = apart & (rng.random(time_ps.size) < self.kept)
        chosen = time_ps[sent], detector[sent]
        self.sink.note(block_id, OverheardClicks(chosen[0], chosen[1].copy()))
        return {**clicks, self.side: chosen}
