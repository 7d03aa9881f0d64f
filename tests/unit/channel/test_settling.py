"""Settling: whatever a crash left behind, both sites come to the same blocks."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from keyferry.engine.settling import runs_of, settle
from keyferry.store.checks.examples import LATER, a_request
from qkd_core.errors import ChannelError
from qkd_core.types.authentication import Lane, MessageKind
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState

A, B = Side.A, Side.B
NONE, PENDING, AVAILABLE = BlockState.NONE, BlockState.PENDING, BlockState.AVAILABLE


def settled(ends):
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(settle, end.line, end.store.blocks, end.store.agreement)
            for end in ends.values()
        ]
        return [run.result(10) for run in runs]


def put(end, block, state: BlockState) -> None:
    if state is not NONE:
        end.store.blocks.store_pending(block)
        end.store.blocks.note_used(block.block_id)
    if state is AVAILABLE:
        end.store.blocks.make_available(block.block_id)


# (available, none) is not here: a site makes a block available only when the peer has stored it.
CASES = {
    (NONE, NONE): NONE,
    (PENDING, NONE): BlockState.DESTROYED,
    (NONE, PENDING): BlockState.DESTROYED,
    (PENDING, PENDING): AVAILABLE,
    (AVAILABLE, PENDING): AVAILABLE,
    (PENDING, AVAILABLE): AVAILABLE,
    (AVAILABLE, AVAILABLE): AVAILABLE,
}


@pytest.mark.parametrize("states", CASES, ids=lambda states: "-".join(states))
def test_a_block_ends_alike_at_both_sites(ends, block, states):
    for end, state in zip(ends.values(), states, strict=True):
        put(end, block(1), state)
    settled(ends)
    found = {side: end.store.blocks.state(BlockId(1)) for side, end in ends.items()}
    gone = {NONE, BlockState.DESTROYED}
    if CASES[states] is AVAILABLE:
        assert set(found.values()) == {AVAILABLE}
    else:
        assert set(found.values()) <= gone
    assert ends[A].store.blocks.newest() == ends[B].store.blocks.newest()


def test_many_blocks_settle_at_once(ends, block):
    for number, states in enumerate(product(CASES, repeat=2), 1):
        for end, state in zip(ends.values(), states[number % 2], strict=True):
            put(end, block(number, segment_pads=0), state)
    settled(ends)
    for number in range(1, len(CASES) ** 2 + 1):
        found = {end.store.blocks.state(BlockId(number)) for end in ends.values()}
        assert found == {AVAILABLE} or AVAILABLE not in found
        assert PENDING not in found


def test_settling_uses_the_reserve_before_anything_is_proved(ends):
    settled(ends)
    assert {frame.trailer.name.lane for frame in ends[A].wire.sent} == {Lane.RESERVE}


def test_settling_uses_proved_pads_of_the_pool_afterwards(ends):
    ends[A].talk(1).send_tagged(MessageKind.PLAN, b"")
    ends[B].talk(1).receive_tagged(MessageKind.PLAN)
    ends[B].talk(1).send_tagged(MessageKind.CLICKS, b"")
    ends[A].talk(1).receive_tagged(MessageKind.CLICKS)
    ends[A].wire.sent.clear()
    settled(ends)
    assert {frame.trailer.name.lane for frame in ends[A].wire.sent} == {Lane.POOL}


def test_the_segment_of_a_pending_block_never_vouches_for_it(ends, block):
    for end in ends.values():
        put(end, block(1), PENDING)
    settled(ends)
    for end in ends.values():
        assert all(frame.trailer.name.segment == 0 for frame in end.wire.sent)


def test_a_peer_that_talks_nonsense_is_refused(ends):
    ends[B].talk(0, settled=1).send_tagged(MessageKind.SETTLE, b'{"pending": "all"}')
    with pytest.raises(ChannelError, match="malformed SETTLE"):
        settle(ends[A].line, ends[A].store.blocks, ends[A].store.agreement)


@pytest.mark.parametrize("lost_state", [NONE, BlockState.DESTROYED])
@pytest.mark.parametrize("loser", [A, B])
def test_a_block_that_one_site_lost_is_burnt_and_what_it_gave_is_orphaned(
    ends, block, loser, lost_state, caplog
):
    keeper = loser.other
    for number in (1, 2, 3):
        put(ends[keeper], block(number), AVAILABLE)
        put(ends[loser], block(number), AVAILABLE)
    store = ends[keeper].store
    while store.blocks.free_bytes() > 500:  # keys out of every block
        store.allocations.deliver(a_request(), LATER)
    if lost_state is NONE:
        ends[loser].store = without(ends[loser], 2)
    else:
        ends[loser].store.blocks.destroy(BlockId(2), "test")

    outcomes = dict(zip(ends, settled(ends), strict=True))

    assert outcomes[keeper].orphaned == (2,)
    assert outcomes[loser].orphaned == ()
    for end in ends.values():
        states = [end.store.blocks.state(BlockId(number)) for number in (1, 3)]
        assert states == [AVAILABLE, AVAILABLE]
    assert store.blocks.state(BlockId(2)) is BlockState.DESTROYED
    assert store.figures().alarms == {"orphaned_block": 1}
    assert "keys are orphaned" in caplog.text


def without(end, number: int):
    """The store of a site that never had the block."""
    del end.store._site.blocks[BlockId(number)]
    return end.store


def test_unspent_blocks_are_told_as_runs():
    assert runs_of(()) == ()
    assert runs_of(map(BlockId, (1, 2, 3, 5, 8, 9))) == ((1, 3), (5, 5), (8, 9))


@pytest.mark.parametrize(
    "said",
    [
        {"unspent": [[1]]},
        {"unspent": [[1, 10**9]]},
        {"unspent": "all"},
        {"unspent": [[-1, 2]]},
    ],
)
def test_a_peer_that_tells_nonsense_of_its_unspent_blocks_is_refused(ends, said):
    body = json.dumps({"pending": [], "newest": 0} | said).encode()
    ends[B].talk(0, settled=1).send_tagged(MessageKind.SETTLE, body)
    with pytest.raises(ChannelError):
        settle(ends[A].line, ends[A].store.blocks, ends[A].store.agreement)


def test_a_peer_of_an_earlier_version_settles_as_before(ends, block):
    put(ends[A], block(1), PENDING)
    talk = ends[B].talk(0, settled=1)
    talk.send_tagged(MessageKind.SETTLE, b'{"pending": [], "newest": 1}')
    talk.send_tagged(MessageKind.STATES, b'{"1": "available"}')
    outcome = settle(ends[A].line, ends[A].store.blocks, ends[A].store.agreement)
    assert outcome.made_available == (1,)
    assert outcome.orphaned == ()
