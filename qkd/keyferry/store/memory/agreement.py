"""`AgreementStore` in memory."""

from collections.abc import Callable, Sequence
from uuid import uuid4

from keyferry.store.gate import Gate
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
from qkd_core.types.keys import BlockState, KeyRange, RefreshState

AGREED = (RefreshState.COMMITTED, RefreshState.PUBLISHED)


class MemoryAgreement:
    def __init__(
        self,
        site: MemorySite,
        gate: Gate,
        blocks: MemoryBlocks,
        allocations: MemoryAllocations,
        forget_pads: Callable[[BlockId], None],
    ) -> None:
        self._site, self._gate = site, gate
        self._blocks, self._allocations = blocks, allocations
        self._forget_pads = forget_pads

    def cede(self, n_bytes: int) -> tuple[Cession, ...]:
        self._gate.check()
        with self._site.lock:
            runs = sorted(self._blocks.closed_runs(), reverse=True)
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
            self._destroy_at_both(block_id, reason)

    def orphan_block(self, block_id: BlockId, at_peer: BlockState) -> tuple[KeyId, ...]:
        site = self._site
        with site.lock:
            if self._blocks.state(block_id) is not BlockState.AVAILABLE:
                return ()
            self._blocks.destroy(block_id, f"the peer lost it: {at_peer.value} there")
            orphans = self._cut_here(block_id)
            if at_peer is BlockState.DESTROYED:
                orphans = self._untold(orphans)
            self._orphan(orphans)
            site.alarms["orphaned_block"] += 1
            return tuple(orphans)

    def zeroise_link(self, reason: str) -> None:
        with self._site.lock:
            newest = self._site.newest
            self.erase(newest, reason)
            self._tell(ZeroisedLink(newest, reason))

    def notices(self, limit: int) -> tuple[Notice, ...]:
        return tuple(self._site.notices[:limit])

    def told(self, notice_ids: Sequence[str]) -> None:
        with self._site.lock:
            kept = [each for each in self._site.notices if each.notice_id not in notice_ids]
            self._site.notices = kept

    def refused(self, notice: Notice, why: str) -> None:
        with self._site.lock:
            self.told([notice.notice_id])
            self._site.alarms["notice_refused"] += 1
            self._site.audit("notice_refused", notice_id=notice.notice_id, detail=why)
            if isinstance(notice.deed, Cession):  # nobody's: the peer has burnt the block
                self._destroy(notice.deed.part.block_id, "cession refused")

    def heed(self, notice: Notice) -> None:
        """A copy of a notice that was refused is refused alike, without a second effect."""
        heeded = self._site.heeded
        with self._site.lock:
            if notice.notice_id not in heeded:
                try:
                    self._heed(notice)
                    heeded[notice.notice_id] = None
                except PeerViolation as violation:
                    heeded[notice.notice_id] = str(violation)
            why = heeded[notice.notice_id]
            if why is not None:
                raise PeerViolation(why)

    def _heed(self, notice: Notice) -> None:
        match notice.deed:
            case Cession() as cession:
                self._gain(cession)
            case BurntKey() as burnt:
                self._burn(burnt)
            case DestroyedBlock(block_id, reason):
                self._destroy(block_id, f"the peer: {reason}")
            case ZeroisedLink(newest, reason):
                self.erase(newest, f"the peer: {reason}")

    def burn_free(self, part: KeyRange, reason: str) -> None:
        """Burn free bytes of this site at both sites, under a key ID of their own."""
        with self._site.lock:
            self._tell(BurntKey(self._allocations.burn_free(part), reason))
            self._site.bytes_passed_over += part.stop - part.start

    def _tell(self, deed: Deed) -> None:
        self._site.notices.append(Notice(str(uuid4()), deed))

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
            self._destroy_at_both(part.block_id, "peer violation")
            raise PeerViolation(detail)
        self._site.make_available(part.block_id)
        block.cessions.append(cession)
        self._site.audit("range_gained", ranges=described([part]))
        self._burn_what_was_open(part)

    def _burn_what_was_open(self, part: KeyRange) -> None:
        """The peer may have cut keys there before its store was put back, drawing upwards."""
        lent = self._site.blocks[part.block_id].lent.intersection(range(part.start, part.stop))
        if lent:
            burnt = KeyRange(part.block_id, part.start, max(lent) + 1)
            self.burn_free(burnt, "perhaps used by the peer before it was ceded")

    def _burn(self, burnt: BurntKey) -> None:
        allocation = burnt.allocation
        if allocation.owner is not self._site.side:
            try:
                self._allocations.take_over(allocation)
            except KeyNotFound:
                return
        known = self._site.keys.get(allocation.key_id)
        if known is None or known.allocation != allocation:
            detail = f"key {allocation.key_id} is burnt by the peer, and not known like this here"
            self._site.alarms["peer_violation"] += 1
            self._site.audit("peer_violation", key_id=allocation.key_id, detail=detail)
            raise PeerViolation(detail)
        self._allocations.drop_held(allocation.key_id, burnt=True)

    def erase(self, newest: BlockId, reason: str) -> None:
        """Erase here what `zeroise_link` erases at both sites."""
        for block_id in list(self._site.blocks):
            if block_id <= newest:
                self._blocks.destroy(block_id, reason)
        for key_id, key in self._site.keys.items():
            if key.state is KeyState.ALLOCATED and self._is_within(key_id, newest):
                self._allocations.drop_held(key_id, burnt=True)
        self._orphan([key_id for key_id in self._site.outbox if self._is_within(key_id, newest)])
        self._forget_pads(newest)
        self._site.alarms["link_zeroised"] += 1
        self._site.audit("link_zeroised", newest=newest, reason=reason)

    def _destroy_at_both(self, block_id: BlockId, reason: str) -> None:
        self._destroy(block_id, reason)
        self._tell(DestroyedBlock(block_id, reason))

    def _destroy(self, block_id: BlockId, reason: str) -> None:
        """As the other site does too: the peer can perhaps not take over what it was not told."""
        self._blocks.destroy(block_id, reason)
        self._orphan(self._untold(self._cut_here(block_id)))

    def _cut_here(self, block_id: BlockId) -> list[KeyId]:
        return [
            key_id
            for key_id, key in self._site.keys.items()
            if key.allocation.owner is self._site.side
            and any(part.block_id == block_id for part in key.allocation.ranges)
        ]

    def _untold(self, key_ids: list[KeyId]) -> list[KeyId]:
        """Those that the peer may not have: a refresh run is committed when it has its key."""
        runs = self._site.refreshes.values()
        agreed = {run.key_id for run in runs if run.state in AGREED}
        untold = set(self._site.outbox) - agreed
        return [key_id for key_id in key_ids if key_id in untold]

    def _orphan(self, orphans: list[KeyId]) -> None:
        """Report keys cut here that the peer may never have; burn them at both if they wait."""
        site = self._site
        for key_id in orphans:
            self._allocations.drop_held(key_id, burnt=True)
            self._tell(BurntKey(site.keys[key_id].allocation, "orphaned"))
        site.outbox = [key_id for key_id in site.outbox if key_id not in orphans]
        if orphans:
            site.audit("key_orphaned", key_ids=list(map(str, orphans)))
            site.orphaned_keys += len(orphans)

    def _is_within(self, key_id: KeyId, newest: BlockId) -> bool:
        ranges = self._site.keys[key_id].allocation.ranges
        return all(part.block_id <= newest for part in ranges)
