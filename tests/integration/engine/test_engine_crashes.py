"""Engines that are killed at any moment: no block at one site only, no pad used twice."""

import random
import threading
import time
from contextlib import closing

import pytest

from keyferry.bootstrap import store_of
from qkd_core.types.ids import BlockId, SaeId, Side
from qkd_core.types.keys import Allocation, BlockState, KeyRequest

KILLS = 20
NEVER = 2e9  # seconds since 1970; no key of these tests expires


def reused(tags: list[list[object]]) -> list[tuple[object, ...]]:
    """Pads that stand under two different messages."""
    messages: dict[tuple[object, ...], set[object]] = {}
    for *name, message in tags:
        messages.setdefault(tuple(name), set()).add(message)
    return [name for name, different in messages.items() if len(different) > 1]


def test_both_stores_are_equal_after_each_engine_was_killed_twenty_times(sites):
    for side in Side:
        sites.start(side)
    sites.until(lambda: sites.newest_available() > 0, "a first block")
    started = sites.newest_available()
    killers = [threading.Thread(target=kill_at_random, args=(sites, side)) for side in Side]
    for killer in killers:
        killer.start()
    for killer in killers:
        killer.join()
    survived = max(newest(sites, side) for side in Side)
    sites.until(lambda: sites.newest_available() > survived, "a block after the last kill")
    for side in Side:
        sites.kill(side)
    settle_for_good(sites)

    states = {side: block_states(sites, side) for side in Side}
    assert states[Side.A] == states[Side.B]
    assert BlockState.PENDING not in states[Side.A].values()
    assert sum(state is BlockState.AVAILABLE for state in states[Side.A].values()) > started
    assert_equal_bits(sites)


def kill_at_random(sites, side: Side) -> None:
    """Twenty kills at moments that fall into every phase of a start and of a block."""
    moments = random.Random(f"moments of {side}")
    for _ in range(KILLS):
        time.sleep(moments.uniform(0.05, 2.5))
        sites.kill(side)
        sites.start(side)


def newest(sites, side: Side) -> BlockId:
    with closing(store_of(sites.settings[side], "cli", witnessed=False)) as store:
        return store.blocks.newest()


def settle_for_good(sites) -> None:
    """The last kill may have left a pending block: the engines meet once more without a link."""
    sites.link.kill()
    sites.link.wait(10)
    for side in Side:
        sites.start(side)
    sites.until(lambda: not any(pending(sites, side) for side in Side), "the last settling")
    for side in Side:
        sites.kill(side)


def pending(sites, side: Side) -> tuple[BlockId, ...]:
    with closing(store_of(sites.settings[side], "cli", witnessed=False)) as store:
        return store.blocks.pending()


def block_states(sites, side: Side) -> dict[int, BlockState]:
    """Blocks that hold key or may come to hold it; a site may have no word of one that ended."""
    with closing(store_of(sites.settings[side], "cli", witnessed=False)) as store:
        found = {n: store.blocks.state(BlockId(n)) for n in range(1, store.blocks.newest() + 1)}
    held = (BlockState.PENDING, BlockState.AVAILABLE)
    return {n: state for n, state in found.items() if state in held}


def assert_equal_bits(sites) -> None:
    """Allocate all that is stored, each half by its owner, and compare what both sites read."""
    with (
        closing(store_of(sites.settings[Side.A], "cli", witnessed=False)) as store_a,
        closing(store_of(sites.settings[Side.B], "cli", witnessed=False)) as store_b,
    ):
        stores = {Side.A: store_a, Side.B: store_b}
        for owner, peer in ((Side.A, Side.B), (Side.B, Side.A)):
            compared = 0
            for allocation in everything(stores[owner]):
                stores[peer].allocations.accept(allocation)
                here = stores[owner].allocations.read_held(allocation.key_id)
                there = stores[peer].allocations.read_held(allocation.key_id)
                assert here.secret == there.secret
                compared += len(here.secret)
            assert compared > 0


def everything(store) -> list[Allocation]:
    found: list[Allocation] = []
    consumer = SaeId("refresh/comparison")
    while (left := store.blocks.free_bytes()) >= 8:
        n_bytes = min(8192, left)
        request = KeyRequest(master=consumer, slaves=(consumer,), number=1, n_bits=8 * n_bytes)
        found += store.allocations.hold(request, NEVER)
    return found


POINTS = ["pad-marked", "tag-sent", "tag-accepted", "block-pending", "block-available"]
NUMBERS = {"block-pending": (1,), "block-available": (1,)}


def test_no_pad_is_used_twice_whatever_the_moment_of_the_kill(sites):
    sites.start_recorded(Side.B)
    for side in Side:
        for point in POINTS:
            for number in NUMBERS.get(point, (3, 5)):
                killed_at(sites, side, point, number)
        sites.start_recorded(side)
    before = sites.newest_available()
    sites.until(lambda: sites.newest_available() > before, "a block after the last kill")

    tags = sites.tags()
    assert len(tags) > 100
    assert not reused(tags)


def killed_at(sites, side: Side, point: str, number: int) -> None:
    """Run the side's engine until it kills itself at the ``number``-th call of ``point``."""
    sites.start_recorded(side, "--kill", f"{point}:{number}")
    sites.until(lambda: sites.engines[side].poll() is not None, f"{side} {point} {number}")
    assert sites.engines[side].returncode == -9


@pytest.mark.parametrize("side", list(Side))
def test_a_build_that_marks_after_sending_is_found_out(sites, side):
    sites.start_recorded(side.other)
    first_of_a_block = 3  # after two for settling: the first pad of a run of marks
    sites.start_recorded(side, "--kill", f"tag-sent:{first_of_a_block}", "--mark-after-send")
    sites.until(lambda: sites.engines[side].poll() is not None, "the kill")
    sites.start_recorded(side)
    sites.until(lambda: sites.newest_available() > 0, "a block")

    assert reused(sites.tags())
