"""`PadStore` in memory: each pad is marked when it is taken, so a run is one pad long."""

from dataclasses import dataclass, field

from keyferry.store.memory.site import MemorySite
from keyferry.store.segments import (
    PRESHARED,
    RETIRED_BEHIND,
    SegmentBytes,
    cut_preshared,
)
from qkd_core.errors import AuthenticationFailed, AuthenticationPoolExhausted, ConfigError
from qkd_core.types.authentication import PAD_BYTES, SETTLING_PADS, Lane, Pad, PadName
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState

SegmentName = tuple[Side, Lane, BlockId]


@dataclass(slots=True)
class MemorySegment:
    """``next``: as sender, the first index not taken; as receiver, the first above the mark."""

    data: SegmentBytes
    next: int = 0
    proved: bool = False
    burnt: set[int] = field(default_factory=set)

    def pad(self, name: PadName) -> Pad:
        at = PAD_BYTES * name.index
        return Pad(name, self.data.hash_key, self.data.pads[at : at + PAD_BYTES])

    @property
    def left(self) -> int:
        spent = {index for index in self.burnt if index >= self.next}
        return self.data.n_pads - self.next - len(spent)


class MemoryPads:
    def __init__(self, site: MemorySite) -> None:
        self._site = site
        self._segments: dict[SegmentName, MemorySegment] = {}
        self._secret: bytes | None = None

    def install_preshared(self, secret: bytes) -> None:
        with self._site.lock:
            if self._secret is not None and self._secret != secret:
                raise ConfigError("another pre-shared secret is installed on this link")
            parts = cut_preshared(secret)
            if self._secret is None:
                self._secret = secret
                for part in parts:
                    self.add(part)
                self._site.audit("pool_installed", n_pads=sum(part.n_pads for part in parts))

    def take(self, lane: Lane, *, older_than: BlockId | None, proved: bool) -> Pad:
        with self._site.lock:
            mine = self._usable(lane, older_than)
            if proved:
                mine = [segment for segment in mine if segment.proved][-1:]
            kept = 0 if proved else SETTLING_PADS
            for segment in mine:
                if segment.next < segment.data.n_pads - kept:
                    return self._taken(segment)
            raise AuthenticationPoolExhausted(f"no {lane.name.lower()} pad is left to send with")

    def prove(self, name: PadName) -> None:
        with self._site.lock:
            segment = self._segments.get((self._site.side, name.lane, name.segment))
            if name.sender is self._site.side and segment and name.index < segment.next:
                segment.proved = True
                self._forget_spent(name)

    def expected(self, name: PadName) -> Pad:
        with self._site.lock:
            return self._checked(name).pad(name)

    def advance(self, name: PadName) -> None:
        with self._site.lock:
            self._checked(name).next = name.index + 1
            block = self._site.block(name.segment)
            if block and block.state is BlockState.PENDING:
                self._site.make_available(name.segment)
            self._retire(name)
            self._site.audit("tag_verified", segment=name.segment, index=name.index)

    def burn(self, name: PadName) -> None:
        with self._site.lock:
            segment = self._segments.get((name.sender, name.lane, name.segment))
            if segment and name.index not in segment.burnt:
                segment.burnt.add(name.index)
                self._site.audit("tag_failed", segment=name.segment, index=name.index)

    def remaining(self, sender: Side, lane: Lane) -> int:
        with self._site.lock:
            return sum(
                segment.left
                for (side, of_lane, _), segment in self._segments.items()
                if (side, of_lane) == (sender, lane)
            )

    def add(self, data: SegmentBytes) -> None:
        self._segments[data.sender, data.lane, data.segment] = MemorySegment(data)

    def drop(self, block_id: BlockId) -> None:
        for sender in Side:
            self._segments.pop((sender, Lane.POOL, block_id), None)

    def forget(self, newest: BlockId) -> None:
        """The link is zeroised: the pads of segments up to ``newest`` are gone."""
        for name in list(self._segments):
            if name[2] <= newest:
                del self._segments[name]
        self._secret = None

    def marks(self) -> dict[tuple[Side, int, BlockId], int]:
        """The first unused pad by sender, lane and segment."""
        return {
            (sender, int(lane), segment): kept.next
            for (sender, lane, segment), kept in self._segments.items()
        }

    def _usable(self, lane: Lane, older_than: BlockId | None) -> list[MemorySegment]:
        """This site's segments to send with, oldest first."""
        found = []
        for (sender, of_lane, number), segment in sorted(self._segments.items()):
            mine = sender is self._site.side and of_lane is lane
            old_enough = older_than is None or number < older_than
            if mine and old_enough and self._sendable(number):
                found.append(segment)
        return found

    def _sendable(self, number: BlockId) -> bool:
        block = self._site.block(number)
        return number == PRESHARED or (block is not None and block.state is BlockState.AVAILABLE)

    def _taken(self, segment: MemorySegment) -> Pad:
        data = segment.data
        name = PadName(data.sender, data.lane, data.segment, segment.next)
        segment.next += 1
        self._site.audit("pool_run", segment=data.segment, first=name.index, n_pads=1)
        return segment.pad(name)

    def _checked(self, name: PadName) -> MemorySegment:
        segment = self._segments.get((name.sender, name.lane, name.segment))
        if name.sender is self._site.side or segment is None:
            raise AuthenticationFailed(f"there is no {name} to verify with")
        if not segment.next <= name.index < segment.data.n_pads or name.index in segment.burnt:
            raise AuthenticationFailed(f"{name} is used, burnt or beyond its segment")
        return segment

    def _forget_spent(self, name: PadName) -> None:
        """Pads that older segments kept for settling will not be used: a newer one is proved."""
        for (sender, lane, number), segment in list(self._segments.items()):
            older = (sender, lane) == (name.sender, name.lane) and number < name.segment
            if older and segment.next >= segment.data.n_pads - SETTLING_PADS:
                del self._segments[sender, lane, number]

    def _retire(self, name: PadName) -> None:
        """A sender takes the oldest segment first: what is far behind will not be used again."""
        oldest_kept = name.segment - RETIRED_BEHIND
        for sender, lane, number in list(self._segments):
            if (sender, lane) == (name.sender, Lane.POOL) and PRESHARED < number < oldest_kept:
                del self._segments[sender, lane, number]
