"""`PadStore` in memory: each pad is marked when it is taken, so a run is one pad long."""

from keyferry.store.gate import Gate, PadsClosed
from keyferry.store.memory.site import MemorySegment, MemorySite
from keyferry.store.segments import (
    PRESHARED,
    RETIRED_BEHIND,
    SegmentBytes,
    cut_preshared,
)
from qkd_core.errors import (
    AuthenticationFailed,
    AuthenticationPoolExhausted,
    ChannelError,
    ConfigError,
    PeerUnavailable,
)
from qkd_core.proofs.ledger import Ledger
from qkd_core.types.authentication import SETTLING_PADS, Lane, Pad, PadName
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState


class MemoryPads:
    def __init__(self, site: MemorySite, gate: Gate) -> None:
        self._site, self._gate = site, gate

    def install_preshared(self, secret: bytes) -> None:
        site = self._site
        with site.lock:
            parts = cut_preshared(secret)
            if site.secret == secret:
                return
            if site.secret is not None:
                raise ConfigError("another pre-shared secret is installed on this link")
            self.require_new(secret)
            site.secret = secret
            site.secrets.add(secret)
            for part in parts:
                self.add(part)
            site.audit("pool_installed", n_pads=sum(part.n_pads for part in parts))
            if site.ledger.entries:
                site.audit("epsilon_closed", spent=site.ledger.spent)
            site.ledger = Ledger(limits=site.ledger.limits, since=site.clock.now())

    def require_new(self, secret: bytes) -> None:
        """Raises ConfigError: a secret's pads serve once, so it is not installed again."""
        if secret in self._site.secrets:
            raise ConfigError("this pre-shared secret was installed before: make a new one")

    def take(self, lane: Lane, *, older_than: BlockId | None, proved: bool) -> Pad:
        try:
            self._gate.check()
            try:
                return self._take(lane, older_than, proved)
            except PadsClosed:
                self._gate.more_pads(lane)
                return self._take(lane, older_than, proved)
        except PeerUnavailable as error:
            raise ChannelError(f"no pad may be used now: {error}") from error

    def prove(self, name: PadName) -> None:
        with self._site.lock:
            segment = self._site.segments.get((self._site.side, name.lane, name.segment))
            if name.sender is self._site.side and segment and name.index < segment.next:
                segment.proved = True
                self._forget_spent(name)

    def expected(self, name: PadName) -> Pad:
        with self._site.lock:
            return self._checked(name).pad(name)

    def advance(self, name: PadName) -> None:
        with self._site.lock:
            self._checked(name).next = name.index + 1
            self._site.spend_tags(1)
            block = self._site.block(name.segment)
            if block and block.state is BlockState.PENDING:
                self._site.make_available(name.segment)
            self._retire(name)
            self._site.audit("tag_verified", segment=name.segment, index=name.index)

    def burn(self, name: PadName) -> None:
        with self._site.lock:
            segment = self._site.segments.get((name.sender, name.lane, name.segment))
            if segment and name.index not in segment.burnt:
                segment.burnt.add(name.index)
                self._site.spend_tags(1)
                self._site.audit("tag_failed", segment=name.segment, index=name.index)

    def remaining(self, sender: Side, lane: Lane) -> int:
        with self._site.lock:
            return sum(
                segment.left
                for (side, of_lane, _), segment in self._site.segments.items()
                if (side, of_lane) == (sender, lane)
            )

    def add(self, data: SegmentBytes) -> None:
        self._site.segments[data.sender, data.lane, data.segment] = MemorySegment(data)

    def drop(self, block_id: BlockId) -> None:
        for sender in Side:
            self._site.segments.pop((sender, Lane.POOL, block_id), None)

    def forget(self, newest: BlockId) -> None:
        """The link is zeroised: the pads of segments up to ``newest`` are gone."""
        for name in list(self._site.segments):
            if name[2] <= newest:
                del self._site.segments[name]
        self._site.secret = None

    def marks(self) -> dict[tuple[Side, int, BlockId], int]:
        """The first unused pad by sender, lane and segment."""
        return {
            (sender, int(lane), segment): kept.next
            for (sender, lane, segment), kept in self._site.segments.items()
        }

    def usable(self, lane: Lane, older_than: BlockId | None) -> list[MemorySegment]:
        """This site's segments to send with, oldest first."""
        found = []
        by_age = sorted(self._site.segments.items(), key=lambda item: item[0])
        for (sender, of_lane, number), segment in by_age:
            mine = sender is self._site.side and of_lane is lane
            old_enough = older_than is None or number < older_than
            if mine and old_enough and self._sendable(number):
                found.append(segment)
        return found

    def _sendable(self, number: BlockId) -> bool:
        block = self._site.block(number)
        return number == PRESHARED or (block is not None and block.state is BlockState.AVAILABLE)

    def _take(self, lane: Lane, older_than: BlockId | None, proved: bool) -> Pad:
        """Raises AuthenticationPoolExhausted; PadsClosed when the peer has to open a run first."""
        with self._site.lock:
            self._site.require_open()
            mine = self.usable(lane, older_than)
            if proved:
                mine = [segment for segment in mine if segment.proved][-1:]
            kept = 0 if proved else SETTLING_PADS
            left = [segment for segment in mine if segment.next < segment.data.n_pads - kept]
            for segment in left:
                if not self._site.witnessed or segment.next < segment.opened:
                    return self._taken(segment)
            if left:
                raise PadsClosed(f"no run of {lane.name.lower()} pads is open")
            raise AuthenticationPoolExhausted(f"no {lane.name.lower()} pad is left to send with")

    def _taken(self, segment: MemorySegment) -> Pad:
        data = segment.data
        name = PadName(data.sender, data.lane, data.segment, segment.next)
        segment.next += 1
        self._site.spend_tags(1)
        self._site.audit("pool_run", segment=data.segment, first=name.index, n_pads=1)
        return segment.pad(name)

    def _checked(self, name: PadName) -> MemorySegment:
        segment = self._site.segments.get((name.sender, name.lane, name.segment))
        if name.sender is self._site.side or segment is None:
            raise AuthenticationFailed(f"there is no {name} to verify with")
        if not segment.next <= name.index < segment.data.n_pads or name.index in segment.burnt:
            raise AuthenticationFailed(f"{name} is used, burnt or beyond its segment")
        return segment

    def _forget_spent(self, name: PadName) -> None:
        """Pads that older segments kept for settling will not be used: a newer one is proved."""
        for (sender, lane, number), segment in list(self._site.segments.items()):
            older = (sender, lane) == (name.sender, name.lane) and number < name.segment
            if older and segment.next >= segment.data.n_pads - SETTLING_PADS:
                del self._site.segments[sender, lane, number]

    def _retire(self, name: PadName) -> None:
        """A sender takes the oldest segment first: what is far behind will not be used again."""
        oldest_kept = name.segment - RETIRED_BEHIND
        for sender, lane, number in list(self._site.segments):
            if (sender, lane) == (name.sender, Lane.POOL) and PRESHARED < number < oldest_kept:
                del self._site.segments[sender, lane, number]
