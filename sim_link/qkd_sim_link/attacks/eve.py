"""What an attack on the devices does to a simulated link: it changes the clicks of a block."""

from typing import Protocol

import numpy as np

from qkd_core.types.ids import BlockId
from qkd_sim_link.sampling.event import Clicks


class Eve(Protocol):
    """Whoever has the link between the devices, and knows a weakness of Bob's detectors."""

    @property
    def blinds(self) -> bool:
        """Whether the detectors see faint light no more, the device's own included."""

    def tampered(
        self, block_id: BlockId, clicks: Clicks, period_ps: float, rng: np.random.Generator
    ) -> Clicks:
        """Bob's clicks under the attack, in time order; ``clicks`` are those without it."""
