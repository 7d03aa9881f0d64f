"""Keys cut from this site's own free bytes in memory, and every move of a key."""

from collections.abc import Callable
from typing import TypeVar
from uuid import uuid4

from keyferry.store.gate import OPENINGS, Gate, RunUsedUp
from keyferry.store.losses import PASSED_OVER
from keyferry.store.memory.blocks import MemoryBlocks
from keyferry.store.memory.pool import memory_level
from keyferry.store.memory.site import MemoryKey, MemorySite
from qkd_core.errors import KeysExhausted
from qkd_core.keys.allocation import described, draw, split, weakest
from qkd_core.keys.forecast import retry_after_s
from qkd_core.keys.lifecycle import KeyState, check_key_move
from qkd_core.types.ids import KeyId
from qkd_core.types.keys import Allocation, KeyRange, KeyRequest

T = TypeVar("T")


class MemoryCutting:
    """The caller holds the site's lock, but for `within_runs`, which may ask the peer."""

    def __init__(self, site: MemorySite, gate: Gate, blocks: MemoryBlocks) -> None:
        self._site, self._gate, self._blocks = site, gate, blocks

    def within_runs(self, act: Callable[[], T]) -> T:
        """Cut keys; when what is open is used up, have the peer open more. Raises RunUsedUp."""
        self._gate.check()
        for _ in range(OPENINGS):
            try:
                with self._site.lock:
                    return act()
            except RunUsedUp as used_up:
                self._gate.more_bytes(used_up.n_bytes)
        with self._site.lock:
            return act()

    def allocate(self, request: KeyRequest, expires_at: float) -> list[MemoryKey]:
        """Raises KeysExhausted, RunUsedUp, PeerUnavailable, RolledBack; nothing is cut then."""
        self._site.require_open()
        n_bytes = request.n_bits // 8
        drawn = self._draw(request.number * n_bytes)
        self._site.drawn.append((self._site.clock.now(), request.master, request.number * n_bytes))
        keys = []
        for ranges in split(drawn, [n_bytes] * request.number):
            allocation = Allocation(
                key_id=KeyId(str(uuid4())),
                link_id=self._site.link_id,
                owner=self._site.side,
                master=request.master,
                slaves=request.slaves,
                ranges=ranges,
                n_bits=request.n_bits,
                expires_at=expires_at,
            )
            keys.append(self.cut(allocation))
            self._site.outbox.append(allocation.key_id)
        return keys

    def burn_free(self, part: KeyRange) -> Allocation:
        """Cut free bytes of this site under a key ID of their own, for nobody."""
        allocation = Allocation(
            key_id=KeyId(str(uuid4())),
            link_id=self._site.link_id,
            owner=self._site.side,
            master=PASSED_OVER,
            slaves=(PASSED_OVER,),
            ranges=(part,),
            n_bits=8 * (part.stop - part.start),
            expires_at=self._site.clock.now(),
        )
        key = self.cut(allocation)
        self.move(key, KeyState.ALLOCATED, "key_held")
        self.move(key, KeyState.BURNT, "key_burnt")
        return allocation

    def cut(self, allocation: Allocation) -> MemoryKey:
        """Move the bytes out of their blocks into a key."""
        secret = bytearray()
        for part in allocation.ranges:
            block = self._site.blocks[part.block_id]
            secret += block.stored[part.start : part.stop]
            block.stored[part.start : part.stop] = bytes(part.stop - part.start)
            block.recorded[part.start : part.stop] = [True] * (part.stop - part.start)
        blocks = [self._site.blocks[part.block_id] for part in allocation.ranges]
        provenance = weakest(block.new.provenance for block in blocks)
        key = MemoryKey(allocation, provenance, bytes(secret))
        self._site.keys[allocation.key_id] = key
        return key

    def move(self, key: MemoryKey, state: KeyState, action: str) -> None:
        allocation = key.allocation
        check_key_move(allocation.key_id, key.state, state)
        key.state = state
        if state is not KeyState.ALLOCATED:
            key.secret = b""
            self._site.fresh.pop(allocation.key_id, None)
        self._site.audit(
            action,
            key_id=allocation.key_id,
            master=allocation.master,
            slaves=list(allocation.slaves),
            n_bits=allocation.n_bits,
            ranges=described(allocation.ranges),
        )

    def _draw(self, n_bytes: int) -> tuple[KeyRange, ...]:
        witnessed = self._site.witnessed
        runs = self._blocks.open_runs() if witnessed else self._blocks.free_runs()
        try:
            return draw(
                runs, n_bytes, lambda missing: retry_after_s(missing, memory_level(self._site))
            )
        except KeysExhausted:
            if witnessed and self._blocks.free_bytes() >= n_bytes:
                raise RunUsedUp(n_bytes) from None
            raise
