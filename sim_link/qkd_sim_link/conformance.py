"""What a pair of link devices must keep: plain checks that take the pair.

Each check uses block numbers of its own, taken from ``pair.block_ids``. A device is done when all
of `CHECKS` pass against the real one; one with light of its own passes `SELF_TEST_CHECKS` as well.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkDown
from qkd_core.ports import AliceDevice, BobDevice, SelfTest
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import DecoySettings

JITTER_SIGMAS = 8  # between two clicks, each late or early; P < 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two devices on one link and what is known of them.

    settings         a block that gives a few hundred clicks or more
    dead_time_ps     no two clicks of different slots are closer, but for the jitter
    jitter_sigma_ps  of one click
    patience_s       the drivers' timeout: how long a call may wait for an end that never arms
    """

    alice: AliceDevice
    bob: BobDevice
    settings: DecoySettings
    block_ids: Iterator[BlockId]
    dead_time_ps: float
    jitter_sigma_ps: float
    patience_s: float

    @property
    def period_ps(self) -> float:
        return 1e12 / self.settings.clock_hz

    @property
    def block_s(self) -> float:
        """The duration of a block at real time."""
        return self.settings.n_pulses / self.settings.clock_hz


def a_block_is_whole_and_in_time_order(pair: Pair) -> None:
    clicks = _block(pair)
    slots = _slots(pair, clicks)
    assert clicks.time_ps.dtype == np.int64 and clicks.detector.dtype == np.uint8
    assert clicks.time_ps.size == clicks.detector.size > 0
    assert np.all(np.diff(clicks.time_ps) >= 0), "not in time order"
    assert slots[0] >= 0 and slots[-1] < pair.settings.n_pulses, "outside the block"
    assert np.all(clicks.detector < 4), "a detector that does not exist"  # noqa: PLR2004
    halves = np.bincount(np.minimum(2 * slots // pair.settings.n_pulses, 1), minlength=2)
    # equal rates: z below 6 for Poisson halves, and a dead time only narrows them; P < 1e-8
    assert abs(halves[0] - halves[1]) < 6 * np.sqrt(halves.sum()), "a part of the block is missing"


def detections_stay_the_same_when_asked_again(pair: Pair) -> None:
    first = _block(pair)
    again = pair.bob.detections(first.block_id)
    np.testing.assert_array_equal(first.time_ps, again.time_ps)
    np.testing.assert_array_equal(first.detector, again.detector)


def both_ends_name_one_provenance(pair: Pair) -> None:
    clicks = _block(pair)
    assert clicks.provenance == pair.bob.provenance == pair.alice.provenance


def settings_do_not_depend_on_how_they_are_asked(pair: Pair) -> None:
    clicks = _block(pair)
    slots = np.unique(_slots(pair, clicks))
    chosen = pair.alice.settings(clicks.block_id, slots)
    assert chosen.dtype == np.uint8 and np.all(chosen >> 2 < 3)  # noqa: PLR2004
    order = np.random.default_rng(1).permutation(slots.size)
    np.testing.assert_array_equal(pair.alice.settings(clicks.block_id, slots[order]), chosen[order])
    np.testing.assert_array_equal(pair.alice.settings(clicks.block_id, slots[3:5]), chosen[3:5])
    assert pair.alice.settings(clicks.block_id, slots[:0]).size == 0


def equal_bases_give_mostly_equal_bits(pair: Pair) -> None:
    clicks = _block(pair)
    chosen = pair.alice.settings(clicks.block_id, _slots(pair, clicks))
    equal = (chosen >> 1 & 1) == clicks.detector >> 1
    signal = equal & (chosen >> 2 == 0)
    errors = np.mean((chosen[signal] & 1) != (clicks.detector[signal] & 1))
    assert errors < 0.25, f"QBER {errors:.3f}: no key comes of this link"  # noqa: PLR2004


def dead_time_is_kept_by_both_detectors(pair: Pair) -> None:
    clicks = _block(pair)
    other_slot = np.diff(_slots(pair, clicks)) > 0
    gaps = np.diff(clicks.time_ps)[other_slot]
    allowance = JITTER_SIGMAS * pair.jitter_sigma_ps + 1
    assert gaps.min() >= pair.dead_time_ps - allowance, f"{gaps.min()} ps between clicks"


def slots_outside_the_block_are_refused(pair: Pair) -> None:
    clicks = _block(pair)
    for slot in (-1, pair.settings.n_pulses):
        _is_down(lambda s=slot: pair.alice.settings(clicks.block_id, np.array([s])))  # type: ignore[misc]


def a_block_that_was_never_armed_is_refused(pair: Pair) -> None:
    block_id = next(pair.block_ids)
    _is_down(lambda: pair.bob.detections(block_id))
    _is_down(lambda: pair.alice.settings(block_id, np.zeros(1, np.int64)))


def alice_does_not_hang_when_bob_never_arms(pair: Pair) -> None:
    block_id = next(pair.block_ids)
    pair.alice.arm(block_id, pair.settings)
    _in_time(pair, lambda: pair.alice.settings(block_id, np.zeros(1, np.int64)))


def bob_does_not_hang_when_alice_never_arms(pair: Pair) -> None:
    block_id = next(pair.block_ids)
    pair.bob.arm(block_id, pair.settings)
    _in_time(pair, lambda: pair.bob.detections(block_id))


def different_settings_make_no_block(pair: Pair) -> None:
    block_id = next(pair.block_ids)
    pair.alice.arm(block_id, pair.settings)
    other = replace(pair.settings, n_pulses=pair.settings.n_pulses + 1)
    _is_down(lambda: pair.bob.arm(block_id, other))
    _is_down(lambda: pair.alice.settings(block_id, np.zeros(1, np.int64)))


def arming_the_next_block_ends_the_wait_for_this_one(pair: Pair) -> None:
    """Alice's engine starts anew while Bob waits: Bob's call fails, and the next block works."""
    block_id = next(pair.block_ids)
    pair.bob.arm(block_id, pair.settings)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pair.bob.detections, block_id)
        pair.alice.arm(next(pair.block_ids), pair.settings)
        _in_time(pair, lambda: waiting.result())
    assert _block(pair).time_ps.size > 0


CHECKS: tuple[Callable[[Pair], None], ...] = (
    a_block_is_whole_and_in_time_order,
    detections_stay_the_same_when_asked_again,
    both_ends_name_one_provenance,
    settings_do_not_depend_on_how_they_are_asked,
    equal_bases_give_mostly_equal_bits,
    dead_time_is_kept_by_both_detectors,
    slots_outside_the_block_are_refused,
    a_block_that_was_never_armed_is_refused,
    alice_does_not_hang_when_bob_never_arms,
    bob_does_not_hang_when_alice_never_arms,
    different_settings_make_no_block,
    arming_the_next_block_ends_the_wait_for_this_one,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestedPair(Pair):
    """A pair whose detecting end has light of its own, which fires often in ``settings``."""

    self_test: SelfTest


def shots_lie_in_the_block_and_stay_the_same_when_asked_again(pair: SelfTestedPair) -> None:
    clicks = _block(pair)
    shots, again = (pair.self_test.shots(clicks.block_id) for _ in range(2))
    assert shots.slot.dtype == np.int64 and shots.slot.size > 0
    assert np.all(np.diff(shots.slot) > 0), "not ascending"
    assert shots.slot[0] >= 0 and shots.slot[-1] < pair.settings.n_pulses, "outside the block"
    assert 0 < shots.seen <= 1
    np.testing.assert_array_equal(shots.slot, again.slot)


def shots_come_in_other_slots_in_each_block(pair: SelfTestedPair) -> None:
    first, second = (pair.self_test.shots(_block(pair).block_id).slot for _ in range(2))
    assert np.isin(first, second).mean() < 0.5, "the slots can be foreseen"  # noqa: PLR2004


def live_detectors_see_the_shots(pair: SelfTestedPair) -> None:
    clicks = _block(pair)
    shots = pair.self_test.shots(clicks.block_id)
    slots = np.unique(_slots(pair, clicks))
    last = np.searchsorted(slots, shots.slot) - 1
    since = np.where(last >= 0, shots.slot - slots[np.maximum(last, 0)], pair.settings.n_pulses)
    live = shots.slot[since * pair.period_ps >= pair.dead_time_ps]
    missed = np.sum(~np.isin(live, slots))
    mean = live.size * (1 - shots.seen)
    # by the Chernoff bound, P < 1e-8
    assert live.size > 0
    assert missed <= mean + np.sqrt(37 * mean) + 13, f"{missed} of {live.size} shots missed"


def a_self_test_of_a_block_that_was_never_armed_is_refused(pair: SelfTestedPair) -> None:
    block_id = next(pair.block_ids)
    _is_down(lambda: pair.self_test.shots(block_id))


SELF_TEST_CHECKS: tuple[Callable[[SelfTestedPair], None], ...] = (
    shots_lie_in_the_block_and_stay_the_same_when_asked_again,
    shots_come_in_other_slots_in_each_block,
    live_detectors_see_the_shots,
    a_self_test_of_a_block_that_was_never_armed_is_refused,
)


def _block(pair: Pair) -> Detections:
    """Run one block."""
    block_id = next(pair.block_ids)
    pair.bob.arm(block_id, pair.settings)
    pair.alice.arm(block_id, pair.settings)
    return pair.bob.detections(block_id)


def _slots(pair: Pair, clicks: Detections) -> npt.NDArray[np.int64]:
    return np.floor(clicks.time_ps / pair.period_ps).astype(np.int64)


def _is_down(call: Callable[[], object]) -> None:
    try:
        call()
    except LinkDown:
        return
    raise AssertionError("the call succeeded")


def _in_time(pair: Pair, call: Callable[[], object]) -> None:
    started = monotonic()
    _is_down(call)
    assert monotonic() - started < 3 * pair.patience_s + pair.block_s, "it hung"
