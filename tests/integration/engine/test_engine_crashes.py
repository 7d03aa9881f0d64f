"""Engines that are killed at any moment: a block is at both sites or at neither."""

import random
import time
from collections import Counter
from dataclasses import dataclass

from qkd_core.types.ids import Side
from qkd_core.types.keys import BlockState

ALONE, TOGETHER, EARLY = 12, 4, 4  # kills of each side: twenty
HITS = 10  # of these at least so many in a running block
NO_BLOCK = "between blocks"


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill, ``moment`` usual durations of a block after the start of one.

    ``early``: after the last kill's restart instead, so it falls into start, settling or plan.
    """

    sides: tuple[Side, ...]
    moment: float
    early: bool = False


@dataclass(frozen=True, slots=True)
class Killed:
    """Where a kill found its side, as the records of the side and of the link tell."""

    side: Side
    kill: Kill
    phase: str


def planned_kills() -> list[Kill]:
    """Twenty of each side, those in a block spread evenly over its duration, in random order."""
    chance = random.Random("the order and the moments of the kills")

    def spread(n: int) -> list[float]:
        return [(i + chance.random()) / n for i in range(n)]

    kills = [Kill((side,), moment) for side in Side for moment in spread(ALONE)]
    kills += [Kill(tuple(Side), moment) for moment in spread(TOGETHER)]
    kills += [Kill((side,), moment, early=True) for side in Side for moment in spread(EARLY)]
    chance.shuffle(kills)
    return kills


def test_both_stores_are_equal_after_each_engine_was_killed_twenty_times(sites):
    for side in Side:
        sites.start(side)
    sites.until(lambda: sites.newest_available() > 0, "a first block")
    block_s = usual_duration(sites)
    killed = carried_out(sites, planned_kills(), block_s)
    for side in Side:  # what chance may have missed: both decisions of settling, at each side
        for point in ("block-made", "block-pending"):
            sites.until_killed_at(side, point, 1)
            sites.start(side)
    survived = max(sites.newest(side) for side in Side)
    sites.until(lambda: sites.newest_available() > survived, "a block after the last kill")
    sites.kill(*Side)
    sites.settle_for_good()

    assert sites.blocks(Side.A) == sites.blocks(Side.B)
    assert BlockState.PENDING not in sites.blocks(Side.A).values()
    sites.assert_equal_bits()
    assert_they_bite(killed)
    for side in Side:
        assert set(sites.settled(side).values()) == {"available", "destroyed"}


def assert_they_bite(killed: list[Killed]) -> None:
    """The kills hit running blocks, in all parts of their duration."""
    hits = [one for one in killed if one.phase != NO_BLOCK]
    for side in Side:
        assert sum(one.side is side for one in killed) == ALONE + TOGETHER + EARLY
        assert sum(one.side is side for one in hits) >= HITS, Counter(map(str, killed))
    assert {int(4 * one.kill.moment) for one in hits if not one.kill.early} == {0, 1, 2, 3}


def usual_duration(sites) -> float:
    """Seconds from the start of a block to the start of the next, over three blocks."""
    await_start(sites)
    first, since = sites.started_blocks()[-1], time.monotonic()
    sites.until(lambda: sites.started_blocks()[-1] >= first + 3, "three blocks")
    return (time.monotonic() - since) / 3


def await_start(sites) -> None:
    """Until a new block's pulses start: both engines are in it then."""
    known = len(sites.started_blocks())
    sites.until(lambda: len(sites.started_blocks()) > known, "the start of a block", 0.005)


def carried_out(sites, kills: list[Kill], block_s: float) -> list[Killed]:
    found = []
    earlier = dict.fromkeys(Side, 0)  # blocks that started before the side's engine did
    for kill in kills:
        if not kill.early:
            await_start(sites)
        time.sleep(kill.moment * block_s)
        sites.kill(*kill.sides)
        started = sites.started_blocks()
        for side in kill.sides:
            found.append(Killed(side, kill, phase(sites, side, started[earlier[side] :])))
            earlier[side] = len(started)
        for side in kill.sides:
            sites.start(side)
    return found


def phase(sites, side: Side, started: list[int]) -> str:
    """``started``: the blocks that started in the lifetime of the side's killed engine."""
    block = sites.newest(side)
    if block not in started:
        return NO_BLOCK
    if state := sites.blocks(side).get(block):
        return NO_BLOCK if state is BlockState.AVAILABLE else state.value
    discarded = f"block {block} discarded" in sites.state.log(f"engine-{side}").read_text()
    return NO_BLOCK if discarded else "running"
