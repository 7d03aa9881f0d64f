"""Free bytes for hashing, block by block, and which blocks could not be read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from qkd_core.errors import KeyNotFound, StoreDamaged
from qkd_core.ports import RecordStore
from qkd_core.types.agreement import HashVerdict
from qkd_core.types.ids import BlockId
from qkd_core.types.keys import KeyRange


@dataclass(slots=True)
class Reading:
    """``moved``: some of it went into a key meanwhile. ``damaged``: it does not open."""

    data: bytes = field(default=b"", repr=False)
    moved: list[BlockId] = field(default_factory=list)
    damaged: list[BlockId] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not self.moved and not self.damaged

    def verdict(self) -> HashVerdict:
        """None can be given on what was not read."""
        return HashVerdict(equal=None, moved=tuple(self.moved), damaged=tuple(self.damaged))


def read_blocks(store: RecordStore, ranges: Sequence[KeyRange]) -> Reading:
    """The bytes of ``ranges``, which are in the order of their blocks."""
    reading = Reading()
    parts = []
    for block_id in dict.fromkeys(part.block_id for part in ranges):
        mine = [part for part in ranges if part.block_id == block_id]
        try:
            parts.append(store.read_free(mine))
        except KeyNotFound:
            reading.moved.append(block_id)
        except StoreDamaged:
            reading.damaged.append(block_id)
    reading.data = b"".join(parts)
    return reading
