"""The ports of the store without a database: for tests, and as the plain statement of the rules.

Nothing survives the process.
"""

from keyferry.store.memory.agreement import MemoryAgreement
from keyferry.store.memory.allocations import MemoryAllocations
from keyferry.store.memory.blocks import MemoryBlocks
from keyferry.store.memory.pads import MemoryPads
from keyferry.store.memory.pool import MemoryPool
from keyferry.store.memory.records import MemoryRecords
from keyferry.store.memory.refreshes import MemoryRefreshes
from keyferry.store.memory.site import MemorySite
from qkd_core.ports import Clock
from qkd_core.types.authentication import Lane
from qkd_core.types.figures import SiteFigures
from qkd_core.types.ids import KmeId, LinkId, Side
from qkd_core.types.keys import AuditEvent


class MemoryStore:
    """One site's store; the same attributes as `keyferry.store.sqlite.Store`."""

    def __init__(self, *, link_id: LinkId, side: Side, kme_id: KmeId, clock: Clock) -> None:
        self.kme_id = kme_id
        self._site = MemorySite(link_id=link_id, side=side, clock=clock)
        self.pads = MemoryPads(self._site)
        self.blocks = MemoryBlocks(self._site, self.pads)
        self.refreshes = MemoryRefreshes(self._site)
        self.pool = MemoryPool(self._site)
        self.allocations = MemoryAllocations(self._site, self.blocks, self.refreshes.bound_keys)
        self.agreement = MemoryAgreement(
            self._site, self.blocks, self.allocations, self.pads.forget
        )
        self.records = MemoryRecords(self._site, self.blocks, self.pads.marks)

    @property
    def events(self) -> list[AuditEvent]:
        """What a database would have audited, oldest first."""
        return self._site.events

    def figures(self) -> SiteFigures:
        site = self._site
        with site.lock:
            newest = site.blocks[max(site.blocks)].new if site.blocks else None
            return SiteFigures(
                blocks={**site.outcomes, "pending": len(self.blocks.pending())},
                qber=newest.qber if newest else None,
                secret_bits=site.secret_bits,
                link_s=sum(block.new.link_s for block in site.blocks.values()),
                free_bytes={side.value: self.blocks.free_of(side) for side in Side},
                keys_delivered=site.keys_delivered,
                refreshes=self.refreshes.counts(),
                pool_pads={
                    (side.value, lane.name.lower()): self.pads.remaining(side, lane)
                    for side in Side
                    for lane in Lane
                },
                last_discard=site.last_discard,
                paused=site.paused,
                orphaned_keys=site.orphaned_keys,
                alarms=dict(site.alarms),
            )

    def close(self) -> None:
        """Nothing to do: nothing is kept."""
