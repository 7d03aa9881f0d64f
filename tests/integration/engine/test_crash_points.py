"""Engines that are killed right at a step: no block at one site only, no pad used twice."""

import json

import pytest

from qkd_core.types.ids import Side
from qkd_core.types.keys import BlockState

POINTS = {
    "pad-marked": (3, 5),
    "tag-sent": (3, 5),
    "tag-accepted": (3, 5),
    "block-made": (1,),
    "block-pending": (1,),
    "block-available": (1,),
}


def all_tags(sites) -> list[list[object]]:
    """Every tagged frame of both engines: sender, lane, segment, index, message digest."""
    return [
        json.loads(line)
        for side in Side
        if sites.record(side).exists()
        for line in sites.record(side).read_text().splitlines()
    ]


def reused(tags: list[list[object]]) -> list[tuple[object, ...]]:
    """Pads that stand under two different messages."""
    messages: dict[tuple[object, ...], set[object]] = {}
    for *name, message in tags:
        messages.setdefault(tuple(name), set()).add(message)
    return [name for name, different in messages.items() if len(different) > 1]


def test_blocks_are_at_both_sites_and_no_pad_is_used_twice_whatever_the_moment_of_the_kill(
    sites,
):
    for side in Side:
        sites.start_recorded(side)
    for side in Side:
        for point, numbers in POINTS.items():
            for number in numbers:
                sites.until_killed_at(side, point, number)
                recovered(sites, side, f"{point} {number} at {side}")

    tags = all_tags(sites)
    assert len(tags) > 100
    assert not reused(tags)
    sites.kill(*Side)
    sites.settle_for_good()
    assert sites.blocks(Side.A) == sites.blocks(Side.B)
    sites.assert_equal_bits()


def recovered(sites, side: Side, where: str) -> None:
    """Start the killed engine; once a later block is there, both sites hold the same ones."""
    survived = max(sites.newest(either) for either in Side)
    sites.start_recorded(side)
    sites.until(lambda: sites.newest_available() > survived, f"a block after the kill at {where}")
    a, b = (
        {n: state for n, state in sites.blocks(either).items() if n <= survived} for either in Side
    )
    assert a == b, where
    assert BlockState.PENDING not in a.values(), where


@pytest.mark.parametrize("side", list(Side))
def test_a_build_that_marks_after_sending_is_found_out(sites, side):
    sites.start_recorded(side.other)
    first_of_a_block = 3  # after two for settling: the first pad of a run of marks
    sites.start_recorded(side, "--kill", f"tag-sent:{first_of_a_block}", "--mark-after-send")
    sites.until(lambda: sites.engines[side].poll() is not None, "the kill")
    sites.start_recorded(side)
    sites.until(lambda: sites.newest_available() > 0, "a block")

    assert reused(all_tags(sites))
