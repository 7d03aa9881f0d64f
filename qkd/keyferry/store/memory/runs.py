"""Runs in memory: what this site may cut and use by itself, and what it lets its peer."""

from collections.abc import Callable, Sequence

from keyferry.store.memory.blocks import MemoryBlocks
from keyferry.store.memory.pads import MemoryPads
from keyferry.store.memory.site import MemorySegment, MemorySite
from qkd_core.keys.ceding import owner_of
from qkd_core.keys.witness import RUN_BYTES, RUN_PADS, pads_to_open, ranges_to_open
from qkd_core.types.authentication import SETTLING_PADS, Lane
from qkd_core.types.keys import BlockState, KeyRange
from qkd_core.types.witness import OpenSegment, PadRun, Runs

UNCLEAN = "perhaps used before an unclean end"


class MemoryRuns:
    """The caller holds the site's lock. ``burn``: free bytes, at both sites."""

    def __init__(
        self,
        site: MemorySite,
        blocks: MemoryBlocks,
        pads: MemoryPads,
        burn: Callable[[KeyRange, str], None],
    ) -> None:
        self._site, self._blocks, self._pads, self._burn = site, blocks, pads, burn

    # ------------------------------------------------------------------ this site
    def wanted(self, n_bytes: int, lanes: Sequence[Lane]) -> Runs:
        pads: list[PadRun] = []
        for lane in lanes:
            pads += pads_to_open(self._segments(lane), RUN_PADS[lane])
            pads += pads_to_open(self._newest_proved(lane), SETTLING_PADS)
        return Runs(ranges_to_open(self._blocks.open_parts(), n_bytes), tuple(pads))

    def is_low(self, of_bytes: bool, lanes: Sequence[Lane]) -> bool:
        open_bytes = sum(run.stop - run.start for run in self._blocks.open_runs())
        if of_bytes and open_bytes < RUN_BYTES // 2:
            return True
        open_pads = {
            lane: sum(max(0, each.open_stop - each.first) for each in self._segments(lane))
            for lane in lanes
        }
        return any(open_pads[lane] < RUN_PADS[lane] // 2 for lane in lanes)

    def take(self, asked: Runs, opened: Runs) -> None:
        for part in opened.ranges:
            for wanted in asked.ranges:
                if wanted.block_id == part.block_id and wanted.start <= part.start:
                    self._take_bytes(wanted, part)
        for run in opened.pads:
            segment = self._site.segments.get((self._site.side, run.lane, run.segment))
            if segment is not None:
                self._take_pads(segment, run)

    def close_all(self) -> None:
        """Nothing is open; what the peer opens next begins where it knows of no use."""
        for block in self._site.blocks.values():
            block.opened.clear()
        for segment in self._site.segments.values():
            segment.opened = 0

    def _take_bytes(self, asked: KeyRange, opened: KeyRange) -> None:
        """The run that was asked for: burn what lies before, and let the rest be cut."""
        for free in self._blocks.free_runs():
            if free.block_id != asked.block_id or not asked.start <= free.start < asked.stop:
                continue
            start = max(free.start, min(opened.start, free.stop))
            if free.start < start:
                self._burn(KeyRange(free.block_id, free.start, start), UNCLEAN)
            stop = min(opened.stop, free.stop)
            self._site.blocks[free.block_id].opened.update(range(start, stop))
            return

    def _take_pads(self, segment: MemorySegment, opened: PadRun) -> None:
        start, stop = (min(index, segment.data.n_pads) for index in (opened.start, opened.stop))
        if segment.next < start:
            self._site.pads_passed_over += start - segment.next
            self._site.spend_tags(start - segment.next)
            self._site.audit(
                "pads_passed_over", segment=opened.segment, first=segment.next, stop=start
            )
            segment.next = start
        segment.opened = max(segment.opened, stop)

    def _segments(self, lane: Lane) -> list[OpenSegment]:
        return [_as_open(each) for each in self._pads.usable(lane, None) if _has_pads(each)]

    def _newest_proved(self, lane: Lane) -> list[OpenSegment]:
        """The segment that settling sends with, when there is one."""
        proved = [
            number
            for (sender, of_lane, number), segment in self._site.segments.items()
            if (sender, of_lane) == (self._site.side, lane) and segment.proved
        ]
        return [each for each in self._segments(lane) if [each.segment] == sorted(proved)[-1:]]

    # ------------------------------------------------------------------ the peer
    def let(self, wanted: Runs) -> Runs:
        """Open what is the peer's own of what it wants; the rest is left out."""
        ranges = [self._let_cut(part) for part in wanted.ranges if self._is_the_peers(part)]
        pads = [self._let_use(run) for run in wanted.pads if self._lent(run) is not None]
        return Runs(tuple(ranges), tuple(pads))

    def pass_all(self) -> None:
        """What was open to the peer may have been used: it is not opened again."""
        for block in self._site.blocks.values():
            block.passed |= block.lent
        for segment in self._site.segments.values():
            segment.passed = segment.lent

    def forget(self) -> None:
        """The peer comes as another one, with nothing open."""
        for block in self._site.blocks.values():
            block.lent.clear()
            block.passed.clear()

    def _is_the_peers(self, wanted: KeyRange) -> bool:
        block = self._site.block(wanted.block_id)
        if block is None or block.state is BlockState.DESTROYED:
            return False
        owner = owner_of(wanted, block.new.layout, block.cessions)
        return owner is self._site.side.other

    def _let_cut(self, wanted: KeyRange) -> KeyRange:
        """From the first byte that it cannot have cut before, up to the next such place."""
        block = self._site.blocks[wanted.block_id]
        start = wanted.start
        while start in block.passed:
            start += 1
        stop = start
        while stop < wanted.stop and stop not in block.passed:
            stop += 1
        block.lent.update(range(start, stop))
        return KeyRange(wanted.block_id, start, stop)

    def _lent(self, run: PadRun) -> MemorySegment | None:
        return self._site.segments.get((self._site.side.other, run.lane, run.segment))

    def _let_use(self, wanted: PadRun) -> PadRun:
        segment = self._site.segments[self._site.side.other, wanted.lane, wanted.segment]
        segment.lent = max(segment.lent, min(wanted.stop, segment.data.n_pads))
        return PadRun(wanted.lane, wanted.segment, segment.passed, segment.lent)


def _has_pads(segment: MemorySegment) -> bool:
    return segment.next < segment.data.n_pads


def _as_open(segment: MemorySegment) -> OpenSegment:
    data = segment.data
    return OpenSegment(data.lane, data.segment, segment.next, segment.opened, data.n_pads)
