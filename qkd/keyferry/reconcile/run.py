"""One comparison of this site's records and stored bytes with the peer's."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from keyferry.reconcile.hashing import Hashing, HashReport
from qkd_core.keys.reconcile import (
    Difference,
    DifferenceKind,
    common_free,
    differences,
    mark_differences,
)
from qkd_core.ports import AgreementStore, AllocationStore, BlockStore, RecordStore
from qkd_core.types.agreement import (
    BlockRecord,
    HashQuestion,
    HashVerdict,
    RepairOrder,
    SiteView,
)
from qkd_core.types.ids import BlockId, KeyId, Side
from qkd_core.types.keys import BlockState, KeyRange

log = logging.getLogger(__name__)

PAGE = 64  # blocks compared in one exchange
LOOKS = 3  # what differs in every one of them differs
PAUSE_S = 0.7  # between two looks: what is on its way arrives meanwhile
NO_BLOCK = BlockId(0)


class ComparedStore(Protocol):
    """The ports of one site, as far as comparing needs them."""

    @property
    def blocks(self) -> BlockStore: ...

    @property
    def records(self) -> RecordStore: ...

    @property
    def allocations(self) -> AllocationStore: ...

    @property
    def agreement(self) -> AgreementStore: ...


class ReconcilePeer(Protocol):
    """The peer; each call raises PeerUnavailable, PeerViolation."""

    def look(self, blocks: Sequence[BlockId], after: BlockId, up_to: BlockId) -> SiteView: ...

    def compare(self, question: HashQuestion) -> HashVerdict: ...

    def repair(self, order: RepairOrder) -> None: ...


@dataclass(slots=True, kw_only=True)
class Report:
    """What was compared and what differs."""

    n_blocks: int = 0
    found: list[Difference] = field(default_factory=list)
    hashed: HashReport = field(default_factory=HashReport)

    @property
    def clean(self) -> bool:
        return not self.found

    def as_json(self) -> dict[str, Any]:
        return {
            "clean": self.clean,
            "blocks": self.n_blocks,
            "bytes_compared": self.hashed.n_bytes,
            "one_time_keys": self.hashed.n_keys,
            "note": self.hashed.note,
            "differences": [
                {
                    "kind": found.kind.value,
                    "block": found.block_id,
                    "key_id": found.key_id,
                    "detail": found.detail,
                }
                for found in self.found
            ],
        }


class Reconciler:
    """Compares, reports, and burns what differs at both sites. One thread at a time."""

    def __init__(
        self,
        side: Side,
        store: ComparedStore,
        peer: ReconcilePeer,
        hashing: Hashing,
        *,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._side, self._peer, self._hashing, self._pause = side, peer, hashing, pause
        self._records, self._allocations = store.records, store.allocations
        self._agreement = store.agreement

    def run(self) -> Report:
        """Raises PeerUnavailable, PeerViolation; what was found before is repaired by then."""
        report = Report()
        free: list[KeyRange] = []
        for after, up_to, blocks in self._pages():
            mine, theirs = self._look(blocks, after, up_to)
            report.n_blocks += len(mine)
            self._settle(report, self._lasting(mine, theirs))
            broken = {found.block_id for found in report.found}
            for block_id, record in mine.items():
                if block_id not in broken:
                    free += common_free(record, theirs[block_id])
        self._settle(report, self._marks())
        report.hashed = self._hashing.run(free)
        self._settle(report, [_of_bits(block) for block in report.hashed.unequal])
        self._records.note_reconciled(report.n_blocks, report.hashed.n_bytes, len(report.found))
        return report

    def _pages(self) -> Iterator[tuple[BlockId, BlockId, list[BlockId]]]:
        """Unspent blocks here, in pages; the peer adds its own of the same interval."""
        unspent = list(self._records.unspent())
        newest = self._peer.look([], NO_BLOCK, NO_BLOCK).newest
        after = NO_BLOCK
        while unspent:
            page, unspent = unspent[:PAGE], unspent[PAGE:]
            up_to = page[-1] if unspent else BlockId(max(page[-1], newest))
            yield after, up_to, page
            after = up_to
        if after < newest:
            yield after, newest, []

    def _look(
        self, blocks: Sequence[BlockId], after: BlockId, up_to: BlockId
    ) -> tuple[dict[BlockId, BlockRecord], dict[BlockId, BlockRecord]]:
        view = self._peer.look(blocks, after, up_to)
        theirs = {record.block_id: record for record in view.records}
        mine = {record.block_id: record for record in self._records.records(sorted(theirs))}
        return mine, theirs

    def _lasting(
        self, mine: dict[BlockId, BlockRecord], theirs: dict[BlockId, BlockRecord]
    ) -> list[Difference]:
        """What differs at this look and at the next ones too."""
        found = self._differences(mine, theirs)
        for _ in range(LOOKS - 1):
            if not found:
                break
            self._pause(PAUSE_S)
            blocks = sorted({each.block_id for each in found})
            found &= self._differences(*self._look(blocks, NO_BLOCK, NO_BLOCK))
        return sorted(found)

    def _differences(
        self, mine: dict[BlockId, BlockRecord], theirs: dict[BlockId, BlockRecord]
    ) -> set[Difference]:
        return {
            found
            for block_id, record in mine.items()
            for found in differences(record, theirs[block_id], self._side)
        }

    def _marks(self) -> list[Difference]:
        earlier = self._records.pad_marks()
        theirs = self._peer.look([], NO_BLOCK, NO_BLOCK).pad_marks
        return list(mark_differences(earlier, theirs, self._records.pad_marks(), self._side))

    def _settle(self, report: Report, found: Sequence[Difference]) -> None:
        """Report and record differences, then burn what they are about, here and at the peer."""
        if not found:
            return
        report.found += found
        for each in found:
            log.critical("difference: %s", each)
        self._records.note_differences([str(each) for each in found])
        self._burn_here(found)
        self._peer.repair(order_for(found))

    def _burn_here(self, found: Sequence[Difference]) -> None:
        for each in found:
            if each.key_id is not None:
                self._allocations.drop_held(each.key_id, burnt=True)
        for block_id, kind in {each.block_id: each.kind for each in found}.items():
            if kind is DifferenceKind.LOST_THERE:
                (theirs,) = self._peer.look([block_id], NO_BLOCK, NO_BLOCK).records
                self._agreement.orphan_block(block_id, theirs.state)
            elif kind not in (DifferenceKind.LOST_HERE, DifferenceKind.MARK):
                self._agreement.destroy_block(block_id, f"difference: {kind.value}")


def order_for(found: Sequence[Difference]) -> RepairOrder:
    """What the peer burns."""
    kinds = {each.block_id: each.kind for each in found}
    spared = (DifferenceKind.LOST_HERE, DifferenceKind.LOST_THERE, DifferenceKind.MARK)
    lost: dict[BlockId, BlockState] = {}
    for each in found:
        if each.kind is DifferenceKind.LOST_HERE:
            destroyed = BlockState.DESTROYED.value in each.detail
            lost[each.block_id] = BlockState.DESTROYED if destroyed else BlockState.NONE
    return RepairOrder(
        destroy=tuple(block_id for block_id, kind in kinds.items() if kind not in spared),
        lost=lost,
        burn=tuple(KeyId(each.key_id) for each in found if each.key_id is not None),
    )


def _of_bits(block_id: BlockId) -> Difference:
    return Difference(DifferenceKind.BITS, block_id, None, "the universal hashes differ")
