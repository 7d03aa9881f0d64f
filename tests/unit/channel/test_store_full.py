"""A full store: the link waits without spending a pad, or both sites give up the newest block."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from keyferry.config.store import OnFull, StoreSettings
from keyferry.engine import block as engine_block
from keyferry.engine.block import store_and_confirm
from keyferry.engine.budget import Budget
from keyferry.engine.loop import Engine
from keyferry.engine.room import PADS_KEPT, Room
from keyferry.store.checks.examples import LATER, a_request
from qkd_core.types.authentication import Lane, MessageKind
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState
from qkd_core.types.plans import SecurityPolicy

A, B = Side.A, Side.B
ROOMY = StoreSettings()
POLICY = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-12, abort_rate=0.01)


@dataclass
class Distilling:
    """One end of the link, as far as blocks come out of it."""

    side: Side
    end: object
    room: Room
    make: object

    def run_block(self, talk, block_id, link_is_free):
        self.end.store.blocks.begin(block_id, POLICY)
        if self.side is A:
            talk.send(MessageKind.START, b"")
        else:
            talk.receive(MessageKind.START)
        store_and_confirm(talk, self.end.store.blocks, self.make(block_id), self.room)
        return SimpleNamespace(key=SimpleNamespace(n_bits=1))


@pytest.fixture
def engines(ends, block, monkeypatch):
    """Both ends over queues; ``settings`` of site A's store, B's is roomy."""
    monkeypatch.setattr(engine_block, "new_block", lambda distilled: distilled)

    def make(settings):
        made = {}
        for side, end in ends.items():
            room = Room(end.store.blocks, end.store.pads, settings if side is A else ROOMY)
            made[side] = Engine(
                end=Distilling(side, end, room, block),
                terms=None,
                blocks=end.store.blocks,
                pads=end.store.pads,
                agreement=end.store.agreement,
                room=room,
                budget=Budget(end.store.epsilon, POLICY),
                connect=lambda: None,
                timeout_s=5.0,
            )
        return made

    return make


def one_block(engines, ends):
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(
                engine._one_block,
                ends[side].line,
                BlockId(engine.blocks.newest() + 1),
                lambda: None,
            )
            for side, engine in engines.items()
        ]
        return [run.result(10) for run in runs]


def stored_by_one_block(block):
    return block(1).layout.stored_bytes


def test_the_newest_block_is_dropped_at_both_sites_and_the_next_one_comes(ends, block, engines):
    limit = stored_by_one_block(block)
    both = engines(StoreSettings(max_bytes=limit, on_full=OnFull.DROP))
    assert one_block(both, ends) == [True, True]
    assert one_block(both, ends) == [False, False]

    for end in ends.values():
        assert end.store.blocks.state(BlockId(1)) is BlockState.AVAILABLE
    assert ends[A].store.blocks.state(BlockId(2)) is BlockState.NONE
    assert ends[B].store.blocks.state(BlockId(2)) is BlockState.DESTROYED
    assert ends[A].store.figures().blocks["StoreFull"] == 1
    assert ends[B].store.figures().blocks["PeerAborted"] == 1
    assert "StoreFull" in ends[B].store.figures().last_discard

    for end in ends.values():
        end.store.blocks.destroy(BlockId(1), "test")
    assert one_block(both, ends) == [True, True]
    for end in ends.values():
        assert end.store.blocks.state(BlockId(3)) is BlockState.AVAILABLE


def test_a_full_store_that_waits_does_not_even_connect(ends, block, engines):
    both = engines(StoreSettings(max_bytes=stored_by_one_block(block)))
    assert one_block(both, ends) == [True, True]
    engine = both[A]
    pads = ends[A].store.pads.remaining(A, Lane.RESERVE), len(ends[A].wire.sent)
    looks = iter([False] * 6 + [True] * 100)
    engine.stopping = lambda: next(looks)
    engine.connect = lambda: pytest.fail("it connects")
    engine.run()
    assert ends[A].store.figures().paused
    assert pads == (ends[A].store.pads.remaining(A, Lane.RESERVE), len(ends[A].wire.sent))


def test_the_link_goes_on_when_there_is_room_again_and_not_before_there_is_some(ends, block):
    store = ends[A].store
    store.blocks.store_pending(block(1))
    store.blocks.make_available(BlockId(1))
    limit = store.blocks.stored_bytes()
    room = Room(store.blocks, store.pads, StoreSettings(max_bytes=limit))
    assert room.must_wait()
    store.allocations.deliver(a_request(1, 64), LATER)
    assert room.must_wait(), "a few bytes are not enough to go on"
    assert store.figures().paused
    while store.blocks.stored_bytes() >= 0.9 * limit:
        store.allocations.deliver(a_request(1, 64), LATER)
    assert not room.must_wait()
    assert not store.figures().paused
    changes = [event.action for event in store.events if event.action.startswith("link_")]
    assert changes == ["link_paused", "link_resumed"]


def test_blocks_are_not_made_only_to_be_dropped_when_pads_run_low(ends, block):
    store = ends[A].store
    settings = StoreSettings(max_bytes=4096, on_full=OnFull.DROP)
    room = Room(store.blocks, store.pads, settings)
    for number in (1, 2, 3):
        store.blocks.store_pending(block(number, segment_pads=0))
        store.blocks.make_available(BlockId(number))
    assert store.blocks.stored_bytes() > 4096
    assert not room.must_wait(), "there are pads enough"
    while store.pads.remaining(A, Lane.POOL) >= PADS_KEPT:
        store.pads.take(Lane.POOL, older_than=None, proved=False)
    assert room.must_wait()
