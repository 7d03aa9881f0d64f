"""`AgreementStore` in memory."""

from collections.abc import Callable, Sequence
from uuid import uuid4

from keyferry.store.memory.allocations import MemoryAllocations
from keyferry.store.memory.blocks import MemoryBlocks
from keyferry.store.memory.site import MemorySite
from qkd_core.errors import KeyNotFound, PeerViolation
from qkd_core.keys.allocation import described
from qkd_core.keys.ceding import owner_of, tails
from qkd_core.keys.lifecycle import UNKNOWN, KeyState
from qkd_core.types.agreement import (
    BurntKey,
    Cession,
    Deed,
    DestroyedBlock,
    Notice,
    ZeroisedLink,
)
from qkd_core.types.ids import BlockId, KeyId
from qkd_core.types.keys import BlockState


class MemoryAgreement:
    def __init__(
        self,
        site: MemorySite,
        blocks: MemoryBlocks,
        allocations: MemoryAllocations,
        forget_pads: Callable[[BlockId], None],
    ) -> None:
        self._site, self._blocks, self._allocations = site, blocks, allocations
        self._forget_pads = forget_pads
        self._notices: list[Notice] = []
        self._heeded: set[str] = set()

    def cede(self, n_bytes: int) -> tuple[Cession, ...]:
        with self._site.lock:
            runs = sorted(self._blocks.free_runs(), reverse=True)
            ceded = tuple(Cession(part, self._site.side.other) for part in tails(runs, n_bytes))
            for cession in ceded:
                self._site.blocks[cession.part.block_id].cessions.append(cession)
                self._tell(cession)
                self._site.audit("range_ceded", ranges=described([cession.part]))
            return ceded

    def burn_key(self, key_id: KeyId, reason: str) -> str:
        with self._site.lock:
            key = self._site.keys.get(key_id)
            if key is None or key.state is None:
                raise KeyNotFound(f"key {key_id} is not known here", UNKNOWN)
            state = key.state
            self._allocations.drop_held(key_id, burnt=True)
            self._tell(BurntKey(key.allocation, reason))
            self._site.audit("burn_ordered", key_id=key_id, state=state.value, reason=reason)
            return state.value

    def destroy_block(self, block_id: BlockId, reason: str) -> None:
        with self._site.lock:
            self._blocks.destroy(block_id, reason)
            self._tell(DestroyedBlock(block_id, reason))

    def orphan_block(self, block_id: BlockId, at_peer: BlockState) -> tuple[KeyId, ...]:
        site = self._site
        with site.lock:
            if self._blocks.state(block_id) is not BlockState.AVAILABLE:
                return ()
            self._blocks.destroy(block_id, f"the peer lost it: {at_peer.value} there")
            orphans = []
            for key_id, key in site.keys.items():
                mine = key.allocation.owner is site.side
                named = any(part.block_id == block_id for part in key.allocation.ranges)
                gone = at_peer is not BlockState.DESTROYED or key_id in site.outbox
                if mine and named and gone:
                    orphans.append(key_id)
            for key_id in orphans:
                self._allocations.drop_held(key_id, burnt=True)
            site.outbox = [key_id for key_id in site.outbox if key_id not in orphans]
            if orphans:
                site.audit("key_orphaned", block_id=block_id, key_ids=list(map(str, orphans)))
            site.orphaned_keys += len(orphans)
            site.alarms["orphaned_block"] += 1
            return tuple(orphans)

    def zeroise_link(self, reason: str) -> None:
        with self._site.lock:
            newest = self._site.newest
            self._zeroise(newest, reason)
            self._tell(ZeroisedLink(newest, reason))

    def notices(self, limit: int) -> tuple[Notice, ...]:
        return tuple(self._notices[:limit])

    def told(self, notice_ids: Sequence[str]) -> None:
        with self._site.lock:
            self._notices = [each for each in self._notices if each.notice_id not in notice_ids]

    def refused(self, notice: Notice, why: str) -> None:
        with self._site.lock:
            self.told([notice.notice_id])
            self._site.alarms["notice_refused"] += 1
            self._site.audit("notice_refused", notice_id=notice.notice_id, detail=why)

    def heed(self, notice: Notice) -> None:
        with self._site.lock:
            if notice.notice_id in self._heeded:
                return
            match notice.deed:
                case Cession() as cession:
                    self._gain(cession)
                case BurntKey() as burnt:
                    self._burn(burnt)
                case DestroyedBlock(block_id, reason):
                    self._blocks.destroy(block_id, f"the peer: {reason}")
                case ZeroisedLink(newest, reason):
                    self._zeroise(newest, f"the peer: {reason}")
            self._heeded.add(notice.notice_id)

    def _tell(self, deed: Deed) -> None:
        self._notices.append(Notice(str(uuid4()), deed))

    def _gain(self, cession: Cession) -> None:
        part = cession.part
        block = self._site.block(part.block_id)
        if block is None or block.state is BlockState.DESTROYED:
            return
        owner = owner_of(part, block.new.layout, block.cessions)
        empty = part.start >= part.stop
        if (
            empty
            or cession.owner is not self._site.side
            or owner is not self._site.side.other
            or any(block.recorded[part.start : part.stop])
        ):
            detail = f"{described([part])[0]} is ceded by the peer, which may not do that"
            self._site.alarms["peer_violation"] += 1
            self._site.audit("peer_violation", ranges=described([part]), detail=detail)
            self._blocks.destroy(part.block_id, "peer violation")
            raise PeerViolation(detail)
        self._site.make_available(part.block_id)
        block.cessions.append(cession)
        self._site.audit("range_gained", ranges=described([part]))

    def _burn(self, burnt: BurntKey) -> None:
        allocation = burnt.allocation
        if allocation.owner is not self._site.side:
            try:
                self._allocations.accept(allocation)
            except KeyNotFound:
                return
        known = self._site.keys.get(allocation.key_id)
        if known is None or known.allocation != allocation:
            detail = f"key {allocation.key_id} is burnt by the peer, and not known like this here"
            self._site.alarms["peer_violation"] += 1
            self._site.audit("peer_violation", key_id=allocation.key_id, detail=detail)
            raise PeerViolation(detail)
        self._allocations.drop_held(allocation.key_id, burnt=True)

    def _zeroise(self, newest: BlockId, reason: str) -> None:
        for block_id in list(self._site.blocks):
            if block_id <= newest:
                self._blocks.destroy(block_id, reason)
        for key_id, key in self._site.keys.items():
            within = all(part.block_id <= newest for part in key.allocation.ranges)
            if key.state is KeyState.ALLOCATED and within:
                self._allocations.drop_held(key_id, burnt=True)
        self._forget_pads(newest)
        self._site.alarms["link_zeroised"] += 1
        self._site.audit("link_zeroised", newest=newest, reason=reason)
