"""`AllocationStore` in memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

from keyferry.store.gate import Gate, KeysParked
from keyferry.store.memory.blocks import MemoryBlocks
from keyferry.store.memory.cutting import MemoryCutting
from keyferry.store.memory.site import MemoryBlock, MemoryKey, MemorySite
from qkd_core.errors import KeyNotFound, NotAuthorised, PeerViolation
from qkd_core.keys.allocation import (
    check_claim_form,
    check_claim_place,
    check_request,
)
from qkd_core.keys.lifecycle import (
    CONSUMED,
    EXPIRED,
    UNKNOWN,
    KeyState,
    check_key_move,
    reason_gone,
)
from qkd_core.types.agreement import DestroyedBlock, Notice
from qkd_core.types.ids import BlockId, KeyId, SaeId
from qkd_core.types.keys import Allocation, BlockState, DeliveredKey, KeyRange, KeyRequest


class MemoryAllocations:
    def __init__(
        self,
        site: MemorySite,
        gate: Gate,
        blocks: MemoryBlocks,
        cutting: MemoryCutting,
        bound: Callable[[], set[KeyId]],
    ) -> None:
        """``bound``: the keys of refresh runs that are under way, which do not expire."""
        self._site, self._gate, self._blocks = site, gate, blocks
        self._cutting, self._bound = cutting, bound

    def deliver(self, request: KeyRequest, expires_at: float) -> tuple[DeliveredKey, ...]:
        def act() -> tuple[DeliveredKey, ...]:
            keys = self._cutting.allocate(request, expires_at)
            return tuple([self._take_away(key) for key in keys])

        check_request(request)
        return self._cutting.within_runs(act)

    def hold(self, request: KeyRequest, expires_at: float) -> tuple[Allocation, ...]:
        def act() -> tuple[Allocation, ...]:
            keys = self._cutting.allocate(request, expires_at)
            for key in keys:
                self._cutting.move(key, KeyState.ALLOCATED, "key_held")
            return tuple(key.allocation for key in keys)

        check_request(request)
        return self._cutting.within_runs(act)

    def allocation(self, key_id: KeyId) -> Allocation | None:
        key = self._site.keys.get(key_id)
        return key.allocation if key else None

    def accept(self, allocation: Allocation) -> None:
        self._gate.check()
        self.take_over(allocation)

    def take_over(self, allocation: Allocation) -> None:
        """As `accept`, whether or not the gate is open: to burn the key."""
        with self._site.lock, self._violations_burn(allocation):
            known = self._site.keys.get(allocation.key_id)
            if known and known.allocation == allocation:
                return
            if known:
                raise PeerViolation(f"key {allocation.key_id} is known here, and not like this")
            check_claim_form(allocation, self._site.link_id, self._site.side.other)
            blocks = self._named(allocation)
            check_claim_place(
                allocation,
                {i: block.new.layout for i, block in blocks.items()},
                {i: block.cessions for i, block in blocks.items()},
            )
            for part in allocation.ranges:
                if any(blocks[part.block_id].recorded[part.start : part.stop]):
                    raise PeerViolation(f"key {allocation.key_id} claims bytes of another key")
            for block_id in blocks:
                self._blocks.make_available(block_id)
            key = self._cutting.cut(allocation)
            self._site.fresh[allocation.key_id] = self._site.clock.now()
            self._cutting.move(key, KeyState.ALLOCATED, "key_accepted")

    def deliver_by_id(
        self, slave: SaeId, master: SaeId, key_ids: Sequence[KeyId], now: float
    ) -> tuple[DeliveredKey, ...]:
        self._gate.check()
        try:
            return self._hand_out(slave, master, key_ids, now)
        except KeysParked as parked:
            self._gate.release(parked.key_ids)
            return self._hand_out(slave, master, key_ids, now)

    def read_held(self, key_id: KeyId) -> DeliveredKey:
        self._gate.check()
        with self._site.lock:
            key = self._site.keys.get(key_id)
            if key is None or key.state is not KeyState.ALLOCATED:
                raise KeyNotFound(f"key {key_id} is {key.state if key else UNKNOWN}, not held")
            return DeliveredKey(key_id=key_id, secret=key.secret, provenance=key.provenance)

    def drop_held(self, key_id: KeyId, *, burnt: bool) -> None:
        with self._site.lock:
            key = self._site.keys.get(key_id)
            if key and key.state is KeyState.ALLOCATED:
                state = KeyState.BURNT if burnt else KeyState.DELIVERED
                self._cutting.move(key, state, "key_burnt" if burnt else "key_published")

    def expire(self, now: float) -> int:
        with self._site.lock:
            due = [
                key
                for key in self._site.keys.values()
                if key.state is KeyState.ALLOCATED
                and key.allocation.expires_at <= now
                and key.allocation.key_id not in self._bound()
            ]
            for key in due:
                self._cutting.move(key, KeyState.EXPIRED, "key_expired")
            return len(due)

    def outbox(self, limit: int) -> tuple[Allocation, ...]:
        with self._site.lock:
            return tuple(self._site.keys[i].allocation for i in self._site.outbox[:limit])

    def acknowledge(self, key_ids: Sequence[KeyId]) -> None:
        with self._site.lock:
            done = set(key_ids)
            self._site.outbox = [i for i in self._site.outbox if i not in done]

    def burn_free(self, part: KeyRange) -> Allocation:
        """Cut free bytes of this site under a key ID of their own, for nobody."""
        with self._site.lock:
            return self._cutting.burn_free(part)

    def _take_away(self, key: MemoryKey) -> DeliveredKey:
        out = DeliveredKey(
            key_id=key.allocation.key_id, secret=key.secret, provenance=key.provenance
        )
        self._site.keys_delivered += 1
        self._cutting.move(key, KeyState.DELIVERED, "key_delivered")
        return out

    def _hand_out(
        self, slave: SaeId, master: SaeId, key_ids: Sequence[KeyId], now: float
    ) -> tuple[DeliveredKey, ...]:
        """Raises KeysParked beside what `deliver_by_id` raises."""
        with self._site.lock:
            self._site.require_open()
            keys = [self._known(key_id, master) for key_id in key_ids]
            for key in keys:
                if slave not in key.allocation.slaves:
                    raise NotAuthorised(f"key {key.allocation.key_id} is not for {slave}")
            for key in keys:
                self._check_there(key, slave, now)
            parked = [key_id for key_id in key_ids if key_id not in self._site.fresh]
            if self._site.witnessed and parked:
                raise KeysParked(parked)
            return tuple([self._serve(key, slave) for key in keys])

    def _known(self, key_id: KeyId, master: SaeId) -> MemoryKey:
        key = self._site.keys.get(key_id)
        if key is None or key.allocation.master != master:
            raise KeyNotFound(f"key {key_id} of {master} is not known", UNKNOWN)
        return key

    def _check_there(self, key: MemoryKey, slave: SaeId, now: float) -> None:
        key_id = key.allocation.key_id
        if slave in key.served:
            raise KeyNotFound(f"key {key_id} was delivered to {slave}", CONSUMED)
        if key.state is not KeyState.ALLOCATED:
            raise KeyNotFound(
                f"key {key_id} is {key.state}", reason_gone(key.state or KeyState.BURNT)
            )
        if key.allocation.expires_at <= now:
            raise KeyNotFound(f"key {key_id} is expired", EXPIRED)

    def _serve(self, key: MemoryKey, slave: SaeId) -> DeliveredKey:
        out = DeliveredKey(
            key_id=key.allocation.key_id, secret=key.secret, provenance=key.provenance
        )
        key.served.add(slave)
        self._site.keys_delivered += 1
        self._site.audit("key_delivered_by_id", key_id=out.key_id, slave=slave)
        if key.served == set(key.allocation.slaves):
            check_key_move(out.key_id, key.state, KeyState.DELIVERED)
            key.state, key.secret = KeyState.DELIVERED, b""
            self._site.fresh.pop(out.key_id, None)
        return out

    def _named(self, allocation: Allocation) -> dict[BlockId, MemoryBlock]:
        """The blocks that the claim names. Raises KeyNotFound when one is not here."""
        named = {}
        for block_id in sorted({part.block_id for part in allocation.ranges}):
            block = self._site.block(block_id)
            if block is None or block.state is BlockState.DESTROYED:
                state = self._blocks.state(block_id)
                raise KeyNotFound(f"block {block_id} of key {allocation.key_id} is {state} here")
            named[block_id] = block
        return named

    @contextmanager
    def _violations_burn(self, allocation: Allocation) -> Iterator[None]:
        try:
            yield
        except PeerViolation as violation:
            self._site.alarms["peer_violation"] += 1
            self._site.audit("peer_violation", key_id=allocation.key_id, detail=str(violation))
            for block_id in sorted({part.block_id for part in allocation.ranges}):
                if self._blocks.state(block_id) is BlockState.AVAILABLE:
                    deed = DestroyedBlock(block_id, "peer violation")
                    self._site.notices.append(Notice(str(uuid4()), deed))
                self._blocks.destroy(block_id, "peer violation")
            raise
