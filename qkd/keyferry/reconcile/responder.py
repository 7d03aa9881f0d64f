"""What a site answers when its peer compares records."""

import logging
from collections.abc import Sequence

from keyferry.reconcile.range_hash import agrees
from keyferry.reconcile.reading import read_blocks
from keyferry.reconcile.run import ComparedStore
from qkd_core.types.agreement import HashQuestion, HashVerdict, RepairOrder, SiteView
from qkd_core.types.ids import BlockId

log = logging.getLogger(__name__)


class ReconcileResponder:
    """`qkd_api.reconcile.Reconciling` over the ports of a store."""

    def __init__(self, store: ComparedStore) -> None:
        self._blocks, self._records = store.blocks, store.records
        self._allocations, self._agreement = store.allocations, store.agreement

    def look(self, blocks: Sequence[BlockId], after: BlockId, up_to: BlockId) -> SiteView:
        """Records of ``blocks``, and of unspent ones above ``after``, up to ``up_to``."""
        own = [block for block in self._records.unspent() if after < block <= up_to]
        named = sorted({*blocks, *own})
        return SiteView(
            newest=self._blocks.newest(),
            records=self._records.records(named),
            pad_marks=self._records.pad_marks(),
        )

    def compare(self, question: HashQuestion) -> HashVerdict:
        """Raises KeyNotFound, PeerViolation when the one-time key cannot be had."""
        key_id = question.key.key_id
        self._allocations.accept(question.key)
        key = self._allocations.read_held(key_id)
        self._allocations.drop_held(key_id, burnt=True)  # it serves this one message
        reading = read_blocks(self._records, question.ranges)
        if not reading.whole:
            return reading.verdict()
        return HashVerdict(equal=agrees(key.secret, reading.data, question.digest))

    def repair(self, order: RepairOrder) -> None:
        """Burn what differs. Idempotent."""
        for block_id, state in order.lost.items():
            orphans = self._agreement.orphan_block(block_id, state)
            log.critical("block %d is lost at the peer: %d orphans", block_id, len(orphans))
        for block_id in order.destroy:
            self._blocks.destroy(block_id, "the peer found a difference")
        for key_id in order.burn:
            self._allocations.drop_held(key_id, burnt=True)
