"""The ports of the store without a database: for tests, and as the plain statement of the rules.

All that a site has is in its `MemorySite`; the ports of each process are made anew over it. Nothing
survives the process that holds it.
"""

from keyferry.store.gate import Gate, NoWitness, PeerGate
from keyferry.store.memory.agreement import MemoryAgreement
from keyferry.store.memory.allocations import MemoryAllocations
from keyferry.store.memory.blocks import MemoryBlocks
from keyferry.store.memory.comparisons import MemoryComparisons
from keyferry.store.memory.cutting import MemoryCutting
from keyferry.store.memory.epsilon import MemoryEpsilon
from keyferry.store.memory.pads import MemoryPads
from keyferry.store.memory.policies import MemoryLead, MemoryPolicies
from keyferry.store.memory.pool import MemoryPool
from keyferry.store.memory.records import MemoryRecords
from keyferry.store.memory.refreshes import MemoryRefreshes
from keyferry.store.memory.runs import MemoryRuns
from keyferry.store.memory.site import MemorySite
from keyferry.store.memory.witness import MemoryWitness
from qkd_core.photons.entanglement import entanglement_of
from qkd_core.ports import Clock
from qkd_core.types.authentication import Lane
from qkd_core.types.figures import SiteFigures, WitnessFigures
from qkd_core.types.ids import KmeId, LinkId, Side
from qkd_core.types.keys import AuditEvent


class MemoryStore:
    """One site's store; the same attributes as `keyferry.store.sqlite.Store`.

    ``witnessed``: nothing is delivered, consumed or tagged before the peer has let the site open.
    """

    def __init__(
        self,
        *,
        link_id: LinkId,
        side: Side,
        kme_id: KmeId,
        clock: Clock,
        witnessed: bool = False,
    ) -> None:
        self.kme_id = kme_id
        self._open(MemorySite(link_id=link_id, side=side, clock=clock, witnessed=witnessed))

    def opened_again(self) -> "MemoryStore":
        """The same site, as its next process has it, or another one beside this."""
        return self._over(self._site)

    def copied(self) -> "MemoryStore":
        """The site as it stands: what a copy of its files would be opened as later."""
        return self._over(self._site.copy())

    def _over(self, site: MemorySite) -> "MemoryStore":
        store = object.__new__(MemoryStore)
        store.kme_id = self.kme_id
        store._open(site)
        site.audit("opened_again")  # so that a copy of before is known to be older
        return store

    def _open(self, site: MemorySite) -> None:
        self._site = site
        self.gate: Gate = PeerGate() if site.witnessed else NoWitness()
        self.pads = MemoryPads(site, self.gate)
        self.blocks = MemoryBlocks(site, self.pads)
        lead = MemoryLead(site)
        self.refreshes = MemoryRefreshes(site, lead)
        self.policies = MemoryPolicies(site, lead)
        self.comparisons = MemoryComparisons(site, lead)
        self.pool = MemoryPool(site)
        self.epsilon = MemoryEpsilon(site)
        cutting = MemoryCutting(site, self.gate, self.blocks)
        self.allocations = MemoryAllocations(
            site, self.gate, self.blocks, cutting, self.refreshes.bound_keys
        )
        self.agreement = MemoryAgreement(
            site,
            self.gate,
            self.blocks,
            self.allocations,
            self.pads.forget,
        )
        self.records = MemoryRecords(site, self.blocks, self.pads.marks)
        runs = MemoryRuns(site, self.blocks, self.pads, self.agreement.burn_free)
        self.witness = MemoryWitness(
            site, runs, self.pads, self.agreement, self.refreshes.bound_keys
        )

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
                policies=self.policies.figures(),
                pool_pads={
                    (side.value, lane.name.lower()): self.pads.remaining(side, lane)
                    for side in Side
                    for lane in Lane
                },
                last_discard=site.last_discard,
                paused=site.paused,
                orphaned_keys=site.orphaned_keys,
                alarms=dict(site.alarms),
                witness=WitnessFigures(
                    state=site.own.state,
                    peer_state=site.peer.state,
                    bytes_passed_over=site.bytes_passed_over,
                    pads_passed_over=site.pads_passed_over,
                    keys_burnt=site.keys_burnt_unclean,
                ),
                epsilon=self.epsilon.figures(),
                entanglement=entanglement_of(newest.certificate) if newest else None,
                pair_light=site.light,
            )

    def close(self) -> None:
        """Nothing to do: nothing is kept."""
