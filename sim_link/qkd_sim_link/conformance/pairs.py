"""What two tag devices on one link of pairs must keep: plain checks that take both.

Each check uses block numbers of its own, taken from ``link.block_ids``. A device is done when all
of `CHECKS` pass against the real one.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic

import numpy as np

from qkd_core.photons.clock import acquired, coincidences
from qkd_core.photons.coincidences import events_of
from qkd_core.ports import TagDevice
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import PairSettings
from qkd_sim_link.conformance.pulses import DETECTORS, QBER_MAX, require_form
from qkd_sim_link.conformance.verdicts import require, require_down, require_equal

HALVES_Z = 6
LONG_PS = 1 << 60  # of a detector with fewer than two clicks


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
        require_form(tags)
        length = int(tags.time_ps[-1] - tags.time_ps[0])
        told = f"{length} ps are longer than the block"
        require(length <= link.settings.link_s * 1e12 * (1 + 1e-3), told)
        middle = tags.time_ps[0] + length // 2
        halves = np.searchsorted(tags.time_ps, middle), tags.time_ps.size
        # equal rates: z below 6 for Poisson halves, and a dead time only narrows them; P < 1e-8
        told = f"a part is missing: {halves[0]} of {halves[1]} tags in the first half"
        require(abs(2 * halves[0] - halves[1]) < HALVES_Z * np.sqrt(halves[1]), told)


def tags_stay_the_same_when_asked_again(link: PairLink) -> None:
    for first, end in zip(_block(link), (link.alice, link.bob), strict=True):
        again = end.tags(first.block_id)
        require_equal(first.time_ps, again.time_ps, "the times, asked for twice,")
        require_equal(first.detector, again.detector, "the detectors, asked for twice,")


def both_ends_name_one_provenance(link: PairLink) -> None:
    tags = _block(link)
    found = {end.provenance for end in (*tags, link.alice, link.bob)}
    require(len(found) == 1, f"they say {', '.join(sorted(found))}")


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
        told = f"QBER {errors:.3f} in basis {basis}: no key comes of this link"
        require(errors < QBER_MAX, told)


def dead_time_is_kept_by_each_detector(link: PairLink) -> None:
    for tags in _block(link):
        for each in range(DETECTORS):
            gaps = np.diff(tags.time_ps[tags.detector == each])
            allowed = link.dead_time_ps - 2 * link.jitter_ps - 1
            told = f"{gaps.min(initial=LONG_PS)} ps between clicks of detector {each}"
            require(gaps.min(initial=LONG_PS) >= allowed, told)


def clocks_run_on_from_block_to_block(link: PairLink) -> None:
    for before, later in zip(_block(link), _block(link), strict=True):
        back = int(before.time_ps[-1] - later.time_ps[0])
        require(back < 0, f"a clock that is set back by {back} ps")


def a_block_that_was_never_armed_is_refused(link: PairLink) -> None:
    block_id = next(link.block_ids)
    for end in (link.alice, link.bob):
        require_down(partial(end.tags, block_id), "asking for tags")


def an_end_does_not_hang_when_the_other_never_arms(link: PairLink) -> None:
    for end in (link.alice, link.bob):
        block_id = next(link.block_ids)
        end.arm(block_id, link.settings)
        _in_time(link, partial(end.tags, block_id))


def different_settings_make_no_block(link: PairLink) -> None:
    block_id = next(link.block_ids)
    link.alice.arm(block_id, link.settings)
    other = replace(link.settings, link_s=2 * link.settings.link_s)
    require_down(lambda: link.bob.arm(block_id, other), "arming with other settings")
    require_down(lambda: link.alice.tags(block_id), "a block of two settings")


def arming_the_next_block_ends_the_wait_for_this_one(link: PairLink) -> None:
    """One engine starts anew while the other waits: its call fails, and the next block works."""
    block_id = next(link.block_ids)
    link.bob.arm(block_id, link.settings)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(link.bob.tags, block_id)
        link.alice.arm(next(link.block_ids), link.settings)
        _in_time(link, waiting.result)
    for tags in _block(link):
        require(tags.time_ps.size > 0, "the next block has no tag")


OF_BOTH: tuple[Callable[[PairLink], None], ...] = (
    a_record_is_whole_and_in_time_order,
    tags_stay_the_same_when_asked_again,
    both_ends_name_one_provenance,
    the_ends_share_light_and_equal_bases_give_mostly_equal_bits,
    dead_time_is_kept_by_each_detector,
    clocks_run_on_from_block_to_block,
    a_block_that_was_never_armed_is_refused,
)
"""Of ends that know nothing of each other, as recordings, too."""

CHECKS: tuple[Callable[[PairLink], None], ...] = (
    *OF_BOTH,
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


def _in_time(link: PairLink, call: Callable[[], object]) -> None:
    started = monotonic()
    require_down(call, "a block that cannot be")
    took = monotonic() - started
    told = f"it took {took:.1f} s to give up"
    require(took < 3 * link.patience_s + link.settings.link_s, told)
