"""What the link does while the store is full: it waits, or gives up each new block.

A link that waits does not talk to its peer, so that it spends no pads: without new blocks nothing
refills the pool. For the same reason a link that drops blocks waits when its pool runs low.
"""

import logging
from dataclasses import dataclass, field

from keyferry.config.store import OnFull, StoreSettings
from qkd_core.errors import StoreFull
from qkd_core.ports import BlockStore, PadStore
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import Side

log = logging.getLogger(__name__)

GOES_ON_BELOW = 0.9  # of the limit: a link that waited does not stop again with the next block
PADS_KEPT = 256  # of each direction, below which no block is made only to be dropped


@dataclass(slots=True)
class Room:
    """The room of one store for new blocks."""

    blocks: BlockStore
    pads: PadStore
    settings: StoreSettings = field(default_factory=StoreSettings)
    _waiting: bool = False

    def must_wait(self) -> bool:
        """Whether no block should be begun now; a change is logged, shown and audited."""
        waiting = self._should_wait()
        if waiting != self._waiting:
            self.blocks.note_paused(waiting)
            stored = self.blocks.stored_bytes()
            if waiting:
                log.warning("the store is full (%d bytes): the link waits", stored)
            else:
                log.info("the store has room (%d bytes): the link goes on", stored)
        self._waiting = waiting
        return waiting

    def require(self, n_bytes: int) -> None:
        """Raises StoreFull when a block of ``n_bytes`` is to be dropped."""
        limit = self.settings.max_bytes
        stored = self.blocks.stored_bytes()
        if self.settings.on_full is OnFull.DROP and stored + n_bytes > limit:
            raise StoreFull(
                f"{stored} bytes are stored, {n_bytes} more would be above the limit of {limit}"
            )

    def _should_wait(self) -> bool:
        limit = self.settings.max_bytes * (GOES_ON_BELOW if self._waiting else 1.0)
        if self.blocks.stored_bytes() < limit:
            return False
        if self.settings.on_full is OnFull.PAUSE:
            return True
        return any(self.pads.remaining(side, Lane.POOL) < PADS_KEPT for side in Side)
