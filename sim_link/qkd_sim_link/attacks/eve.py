"""What an attack on the devices does to a simulated link: it changes the clicks of a block."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.sampling.event import Clicks


class PulseEve(Protocol):
    """Whoever has the link between the devices, and knows a weakness of Bob's detectors."""

    @property
    def blinds(self) -> bool:
        """Whether the detectors see faint light no more, the device's own included."""

    def tampered(
        self, block_id: BlockId, clicks: Clicks, period_ps: float, rng: np.random.Generator
    ) -> Clicks:
        """Bob's clicks under the attack, in time order; ``clicks`` are those without it."""


@runtime_checkable
class PairEve(Protocol):
    """Whoever has a fibre from a source of pairs, and knows a weakness of a receiver."""

    def tampered_pairs(
        self,
        block_id: BlockId,
        clicks: Mapping[Side, Clicks],
        settings: PairSettings,
        rng: np.random.Generator,
    ) -> Mapping[Side, Clicks]:
        """Both ends' clicks under the attack, in time order by each end's own clock."""


Eve = PulseEve | PairEve
