"""What two tag devices on one link of pairs must keep: plain checks that take both.

Each check uses block numbers of its own, taken from ``link.block_ids``. A device is done when all
of `CHECKS` pass against the real one.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np

from qkd_core.errors import LinkDown
from qkd_core.photons.clock import acquired, coincidences
from qkd_core.photons.coincidences import events_of
from qkd_core.ports import TagDevice
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import PairSettings

QBER_MAX = 0.25
DETECTORS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLink:
    """Two devices on one link and what is known of them.

    settings      a block that gives a few thousand coincidences or more
    dead_time_ps  no two clicks of one detector are closer, but for the jitter
    jitter_ps     of one click, at most
    patience_s    the drivers' timeout: how long a call may wait for an end that never arms
    """

    alice: TagDevice
    bob: TagDevice
    settings: PairSettings
    block_ids: Iterator[BlockId]
    dead_time_ps: float
    jitter_ps: float
    patience_s: float


def a_record_is_whole_and_in_time_order(link: PairLink) -> None:
    for tags in _block(link):
        assert tags.time_ps.dtype == np.int64 and tags.detector.dtype == np.uint8
        assert tags.time_ps.size == tags.detector.size > 0
        assert np.all(np.diff(tags.time_ps) >= 0), "not in time order"
        assert np.all(tags.detector < DETECTORS), "a detector that does not exist"
        length = int(tags.time_ps[-1] - tags.time_ps[0])
        assert length <= link.settings.link_s * 1e12 * (1 + 1e-3), "longer than the block"
        middle = tags.time_ps[0] + length // 2
        halves = np.searchsorted(tags.time_ps, middle), tags.time_ps.size
        # equal rates: z below 6 for Poisson halves, and a dead time only narrows them; P < 1e-8
        assert abs(2 * halves[0] - halves[1]) < 6 * np.sqrt(halves[1]), "a part is missing"


def tags_stay_the_same_when_asked_again(link: PairLink) -> None:
    first, _ = _block(link)
    again = link.alice.tags(first.block_id)
    np.testing.assert_array_equal(first.time_ps, again.time_ps)
    np.testing.assert_array_equal(first.detector, again.detector)


def both_ends_name_one_provenance(link: PairLink) -> None:
    tags = _block(link)
    assert len({end.provenance for end in (*tags, link.alice, link.bob)}) == 1


def the_ends_share_light_and_equal_bases_give_mostly_equal_bits(link: PairLink) -> None:
    ours, theirs = (events_of(tags, link.settings, os.urandom) for tags in _block(link))
    clock = acquired(ours.time_ps, theirs.time_ps)
    in_a, in_b = coincidences(
        ours.time_ps, clock.to_alice(theirs.time_ps), link.settings.window_ps // 2
    )
    a, b = ours.outcome[in_a], theirs.outcome[in_b]
    for basis in (0, 1):
        both = (a >> 1 == basis) & (b >> 1 == basis)
        errors = float(np.mean(a[both] != b[both]))
        assert errors < QBER_MAX, f"QBER {errors:.3f} in basis {basis}: no key comes of this link"


def dead_time_is_kept_by_each_detector(link: PairLink) -> None:
    for tags in _block(link):
        for each in range(DETECTORS):
            gaps = np.diff(tags.time_ps[tags.detector == each])
            allowed = link.dead_time_ps - 2 * link.jitter_ps - 1
            assert gaps.min() >= allowed, f"{gaps.min()} ps between clicks of detector {each}"


def clocks_run_on_from_block_to_block(link: PairLink) -> None:
    for before, later in zip(_block(link), _block(link), strict=True):
        assert later.time_ps[0] > before.time_ps[-1], "a clock that is set back"


def a_block_that_was_never_armed_is_refused(link: PairLink) -> None:
    block_id = next(link.block_ids)
    for end in (link.alice, link.bob):
        _is_down(lambda end=end: end.tags(block_id))  # type: ignore[misc]


def an_end_does_not_hang_when_the_other_never_arms(link: PairLink) -> None:
    for end in (link.alice, link.bob):
        block_id = next(link.block_ids)
        end.arm(block_id, link.settings)
        _in_time(link, lambda end=end, block_id=block_id: end.tags(block_id))  # type: ignore[misc]


def different_settings_make_no_block(link: PairLink) -> None:
    block_id = next(link.block_ids)
    link.alice.arm(block_id, link.settings)
    other = replace(link.settings, link_s=2 * link.settings.link_s)
    _is_down(lambda: link.bob.arm(block_id, other))
    _is_down(lambda: link.alice.tags(block_id))


def arming_the_next_block_ends_the_wait_for_this_one(link: PairLink) -> None:
    """One engine starts anew while the other waits: its call fails, and the next block works."""
    block_id = next(link.block_ids)
    link.bob.arm(block_id, link.settings)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(link.bob.tags, block_id)
        link.alice.arm(next(link.block_ids), link.settings)
        _in_time(link, waiting.result)
    assert all(tags.time_ps.size > 0 for tags in _block(link))


CHECKS: tuple[Callable[[PairLink], None], ...] = (
    a_record_is_whole_and_in_time_order,
    tags_stay_the_same_when_asked_again,
    both_ends_name_one_provenance,
    the_ends_share_light_and_equal_bases_give_mostly_equal_bits,
    dead_time_is_kept_by_each_detector,
    clocks_run_on_from_block_to_block,
    a_block_that_was_never_armed_is_refused,
    an_end_does_not_hang_when_the_other_never_arms,
    different_settings_make_no_block,
    arming_the_next_block_ends_the_wait_for_this_one,
)


def _block(link: PairLink) -> tuple[Detections, Detections]:
    """Run one block: Alice's tags and Bob's."""
    block_id = next(link.block_ids)
    link.bob.arm(block_id, link.settings)
    link.alice.arm(block_id, link.settings)
    return link.alice.tags(block_id), link.bob.tags(block_id)


def _is_down(call: Callable[[], object]) -> None:
    try:
        call()
    except LinkDown:
        return
    raise AssertionError("the call succeeded")


def _in_time(link: PairLink, call: Callable[[], object]) -> None:
    started = monotonic()
    _is_down(call)
    assert monotonic() - started < 3 * link.patience_s + link.settings.link_s, "it hung"
