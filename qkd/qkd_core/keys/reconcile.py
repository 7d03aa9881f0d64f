"""Do both sites have the same on record? What differs, and what may be done about it.

Two moments are never quite the same at two sites: an allocation or cession that is on its way is no
difference. What was acknowledged must be known at both. Whatever differs is burnt, never repaired
by offering it again: a site that lost a record may have handed out what the record was about.
Source: `architecture.md`, section 3.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from qkd_core.types.agreement import BlockRecord, PadMarks, TakenRange
from qkd_core.types.ids import BlockId, KeyId, Side
from qkd_core.types.keys import BlockState, KeyRange


class DifferenceKind(StrEnum):
    LOST_THERE = "block lost at the peer"
    LOST_HERE = "block lost here"
    KEY_MISSING_THERE = "acknowledged key is not known at the peer"
    KEY_MISSING_HERE = "acknowledged key is not known here"
    KEY_FOREIGN_HERE = "key is known here and its allocator does not know it"
    KEY_FOREIGN_THERE = "key is known at the peer and was not allocated here"
    OWNER = "range is owned by both, or by neither"
    BITS = "stored bytes differ"
    MARK = "high-water mark is behind the peer's"


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """``detail``: IDs and positions, never bytes."""

    kind: DifferenceKind
    block_id: BlockId
    key_id: KeyId | None
    detail: str

    def __str__(self) -> str:
        key = f" key {self.key_id}" if self.key_id else ""
        return f"block {self.block_id}{key}: {self.kind.value} ({self.detail})"


GONE = (BlockState.NONE, BlockState.DESTROYED)


def differences(mine: BlockRecord, theirs: BlockRecord, side: Side) -> Iterator[Difference]:
    """How two records of one block disagree, seen from ``side``; nothing that is on its way.

    Blocks that are pending at either site are for the engines to settle.
    """
    available, block_id = BlockState.AVAILABLE, mine.block_id
    if mine.state is available and theirs.state in GONE:
        detail = f"it is {theirs.state.value} there"
        yield Difference(DifferenceKind.LOST_THERE, block_id, None, detail)
    elif theirs.state is available and mine.state in GONE:
        detail = f"it is {mine.state.value} here"
        yield Difference(DifferenceKind.LOST_HERE, block_id, None, detail)
    elif mine.state is available and theirs.state is available:
        yield from _of_keys(mine, theirs, side)
        yield from _of_owners(mine, theirs, side)


def _of_keys(mine: BlockRecord, theirs: BlockRecord, side: Side) -> Iterator[Difference]:
    there = {(taken.key_id, taken.part, taken.owner) for taken in theirs.taken}
    here = {(taken.key_id, taken.part, taken.owner) for taken in mine.taken}
    for taken in mine.taken:
        if (taken.key_id, taken.part, taken.owner) in there:
            continue
        if taken.owner is not side:
            yield _about(DifferenceKind.KEY_FOREIGN_HERE, taken)
        elif taken.told:
            yield _about(DifferenceKind.KEY_MISSING_THERE, taken)
    for taken in theirs.taken:
        if (taken.key_id, taken.part, taken.owner) in here:
            continue
        if taken.owner is side:
            yield _about(DifferenceKind.KEY_FOREIGN_THERE, taken)
        elif taken.told:
            yield _about(DifferenceKind.KEY_MISSING_HERE, taken)


def _of_owners(mine: BlockRecord, theirs: BlockRecord, side: Side) -> Iterator[Difference]:
    """A range must be given before it is gained; one that is on its way is nobody's meanwhile."""
    for owner, gained, given in ((side, mine, theirs), (side.other, theirs, mine)):
        known = [cession for cession in given.cessions if cession.owner is owner]
        for cession in gained.cessions:
            if cession.owner is owner and cession not in known:
                part = cession.part
                detail = f"bytes {part.start} to {part.stop}, gained by side {owner}, never ceded"
                yield Difference(DifferenceKind.OWNER, part.block_id, None, detail)


def _about(kind: DifferenceKind, taken: TakenRange) -> Difference:
    part = taken.part
    detail = f"bytes {part.start} to {part.stop} of side {taken.owner}"
    return Difference(kind, part.block_id, taken.key_id, detail)


def common_free(mine: BlockRecord, theirs: BlockRecord) -> tuple[KeyRange, ...]:
    """What is in no key at either site of a block that both have, ascending."""
    if mine.state is not BlockState.AVAILABLE or theirs.state is not BlockState.AVAILABLE:
        return ()
    free = []
    start = 0
    for taken in sorted([*mine.taken, *theirs.taken]):
        if start < taken.part.start:
            free.append(KeyRange(mine.block_id, start, taken.part.start))
        start = max(start, taken.part.stop)
    if start < mine.layout.stored_bytes:
        free.append(KeyRange(mine.block_id, start, mine.layout.stored_bytes))
    return tuple(free)


def mark_differences(
    earlier: PadMarks, theirs: PadMarks, later: PadMarks, side: Side
) -> Iterator[Difference]:
    """Pads that a receiver has verified and that their sender has not used yet.

    A site that was put back has such marks. This site's own are read before and after the peer's:
    marks move all the time. Segments that one side has let go are left out.
    """
    for name in sorted(earlier.keys() & theirs.keys() & later.keys()):
        sender, lane, segment = name
        mine = later if sender is side else earlier
        used, verified = (mine, theirs) if sender is side else (theirs, mine)
        if verified[name] > used[name]:
            detail = (
                f"pads of side {sender}, lane {lane}: {used[name]} used, {verified[name]} verified"
            )
            yield Difference(DifferenceKind.MARK, segment, None, detail)


def without(ranges: Iterable[KeyRange], taken: Iterable[KeyRange]) -> tuple[KeyRange, ...]:
    """``ranges`` less every byte of ``taken``."""
    left = list(ranges)
    for gone in taken:
        left = [part for whole in left for part in _apart(whole, gone)]
    return tuple(left)


def _apart(whole: KeyRange, gone: KeyRange) -> Iterator[KeyRange]:
    if whole.block_id != gone.block_id or gone.stop <= whole.start or whole.stop <= gone.start:
        yield whole
        return
    if whole.start < gone.start:
        yield KeyRange(whole.block_id, whole.start, gone.start)
    if gone.stop < whole.stop:
        yield KeyRange(whole.block_id, gone.stop, whole.stop)
