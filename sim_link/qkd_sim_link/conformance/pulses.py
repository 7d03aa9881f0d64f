"""What the two devices of a link of decoy pulses must keep: plain checks that take both.

Each check uses block numbers of its own, taken from ``pair.block_ids``. A device is done when all
of `CHECKS` pass against the real one; one with light of its own passes `SELF_TEST_CHECKS` as well.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from time import monotonic

import numpy as np
import numpy.typing as npt

from qkd_core.ports import AliceDevice, BobDevice, SelfTest
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import DecoySettings
from qkd_sim_link.conformance.verdicts import (
    NotApplicable,
    require,
    require_down,
    require_equal,
)

JITTER_SIGMAS = 8  # between two clicks, each late or early; P < 1e-8
HALVES_Z = 6
QBER_MAX = 0.25
DETECTORS = 4
SHOT_BLOCKS_MAX = 10  # that are run until there are enough of them
FORESEEN_MAX = 0.5  # of the shots of one block that come again in the next
FIRST = np.zeros(1, np.int64)


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


def require_form(clicks: Detections) -> None:
    """Raises Failed unless each click has a time, in order, and one of the detectors."""
    times, detector = clicks.time_ps, clicks.detector
    types = f"{times.dtype} times and {detector.dtype} detectors"
    require(times.dtype == np.int64 and detector.dtype == np.uint8, types)
    require(times.size == detector.size > 0, f"{times.size} times, {detector.size} detectors")
    require(np.all(np.diff(times) >= 0), "not in time order")
    require(np.all(detector < DETECTORS), f"detector {detector.max()}, which does not exist")


def a_block_is_whole_and_in_time_order(pair: Pair) -> None:
    clicks = _block(pair)
    slots = _slots(pair, clicks)
    require_form(clicks)
    inside = slots[0] >= 0 and slots[-1] < pair.settings.n_pulses
    require(inside, f"clicks from slot {slots[0]} to {slots[-1]}, outside the block")
    halves = np.bincount(np.minimum(2 * slots // pair.settings.n_pulses, 1), minlength=2)
    # equal rates: z below 6 for Poisson halves, and a dead time only narrows them; P < 1e-8
    told = f"a part is missing: {halves[0]} and {halves[1]} clicks in its halves"
    require(abs(halves[0] - halves[1]) < HALVES_Z * np.sqrt(halves.sum()), told)


def detections_stay_the_same_when_asked_again(pair: Pair) -> None:
    first = _block(pair)
    again = pair.bob.detections(first.block_id)
    require_equal(first.time_ps, again.time_ps, "the times, asked for twice,")
    require_equal(first.detector, again.detector, "the detectors, asked for twice,")


def both_ends_name_one_provenance(pair: Pair) -> None:
    clicks = _block(pair)
    found = {clicks.provenance, pair.bob.provenance, pair.alice.provenance}
    require(len(found) == 1, f"they say {', '.join(sorted(found))}")


def settings_do_not_depend_on_how_they_are_asked(pair: Pair) -> None:
    clicks = _block(pair)
    slots = np.unique(_slots(pair, clicks))
    chosen = pair.alice.settings(clicks.block_id, slots)
    require(chosen.dtype == np.uint8, f"settings of type {chosen.dtype}")
    n_intensities = len(pair.settings.intensities)
    require(
        np.all(chosen >> 2 < n_intensities),
        f"intensities beyond the {n_intensities} that are armed",
    )
    order = np.random.default_rng(1).permutation(slots.size)
    for asked, expected in (
        (slots[order], chosen[order]),
        (slots[3:5], chosen[3:5]),
        (slots[:0], chosen[:0]),
    ):
        found = pair.alice.settings(clicks.block_id, asked)
        require_equal(found, expected, "settings, asked for in another way,")


def equal_bases_give_mostly_equal_bits(pair: Pair) -> None:
    clicks = _block(pair)
    chosen = pair.alice.settings(clicks.block_id, _slots(pair, clicks))
    equal = (chosen >> 1 & 1) == clicks.detector >> 1
    signal = equal & (chosen >> 2 == 0)
    errors = np.mean((chosen[signal] & 1) != (clicks.detector[signal] & 1))
    require(errors < QBER_MAX, f"QBER {errors:.3f}: no key comes of this link")


def dead_time_is_kept_by_both_detectors(pair: Pair) -> None:
    clicks = _block(pair)
    other_slot = np.diff(_slots(pair, clicks)) > 0
    gaps = np.diff(clicks.time_ps)[other_slot]
    allowance = JITTER_SIGMAS * pair.jitter_sigma_ps + 1
    require(gaps.min() >= pair.dead_time_ps - allowance, f"{gaps.min()} ps between clicks")


def slots_outside_the_block_are_refused(pair: Pair) -> None:
    clicks = _block(pair)
    for slot in (-1, pair.settings.n_pulses):
        asked = np.array([slot])
        require_down(
            partial(pair.alice.settings, clicks.block_id, asked), f"asking for slot {slot}"
        )


def a_block_that_was_never_armed_is_refused(pair: Pair) -> None:
    block_id = next(pair.block_ids)
    require_down(lambda: pair.bob.detections(block_id), "asking for clicks")
    require_down(lambda: pair.alice.settings(block_id, FIRST), "asking for settings")


def alice_does_not_hang_when_bob_never_arms(pair: Pair) -> None:
    block_id = next(pair.block_ids)
    pair.alice.arm(block_id, pair.settings)
    _in_time(pair, lambda: pair.alice.settings(block_id, FIRST))


def bob_does_not_hang_when_alice_never_arms(pair: Pair) -> None:
    block_id = next(pair.block_ids)
    pair.bob.arm(block_id, pair.settings)
    _in_time(pair, lambda: pair.bob.detections(block_id))


def different_settings_make_no_block(pair: Pair) -> None:
    block_id = next(pair.block_ids)
    pair.alice.arm(block_id, pair.settings)
    other = replace(pair.settings, n_pulses=pair.settings.n_pulses + 1)
    require_down(lambda: pair.bob.arm(block_id, other), "arming with other settings")
    require_down(lambda: pair.alice.settings(block_id, FIRST), "a block of two settings")


def arming_the_next_block_ends_the_wait_for_this_one(pair: Pair) -> None:
    """Alice's engine starts anew while Bob waits: Bob's call fails, and the next block works."""
    block_id = next(pair.block_ids)
    pair.bob.arm(block_id, pair.settings)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pair.bob.detections, block_id)
        pair.alice.arm(next(pair.block_ids), pair.settings)
        _in_time(pair, waiting.result)
    require(_block(pair).time_ps.size > 0, "the next block has no click")


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

    def without_self_test(self) -> Pair:
        """The same two devices, of which none has light of its own."""
        return Pair(**{each.name: getattr(self, each.name) for each in fields(Pair)})


def shots_lie_in_the_block_and_stay_the_same_when_asked_again(pair: SelfTestedPair) -> None:
    clicks = _block(pair)
    shots, again = (pair.self_test.shots(clicks.block_id) for _ in range(2))
    require(shots.slot.dtype == np.int64 and shots.slot.size > 0, "no shot")
    require(np.all(np.diff(shots.slot) > 0), "the shots are not ascending")
    inside = shots.slot[0] >= 0 and shots.slot[-1] < pair.settings.n_pulses
    require(inside, f"shots from slot {shots.slot[0]} to {shots.slot[-1]}, outside the block")
    require(0 < shots.seen <= 1, f"a shot is seen with probability {shots.seen}")
    require_equal(shots.slot, again.slot, "the shots, asked for twice,")


def shots_come_in_other_slots_in_each_block(pair: SelfTestedPair) -> None:
    first, second = (pair.self_test.shots(_block(pair).block_id).slot for _ in range(2))
    again = float(np.isin(first, second).mean())
    require(again < FORESEEN_MAX, f"{again:.0%} of the slots come again: they can be foreseen")


def live_detectors_see_the_shots(pair: SelfTestedPair) -> None:
    n, missed, mean = 0, 0, 0.0
    for _ in range(SHOT_BLOCKS_MAX):
        live, not_seen, seen = _shots_at_live_detectors(pair)
        n, missed, mean = n + live, missed + not_seen, mean + live * (1 - seen)
        # by the Chernoff bound, P < 1e-8 after any one of the blocks
        allowed = mean + np.sqrt(37 * mean) + 13
        if n > allowed:
            told = f"{missed} of {n} shots missed, at most {allowed:.0f} may be"
            return require(missed <= allowed, told)
    raise NotApplicable(f"{n} shots at live detectors are too few to tell")


def _shots_at_live_detectors(pair: SelfTestedPair) -> tuple[int, int, float]:
    """Of one block: how many, how many of them are missed, and the chance that one is seen."""
    clicks = _block(pair)
    shots = pair.self_test.shots(clicks.block_id)
    slots = np.unique(_slots(pair, clicks))
    last = np.searchsorted(slots, shots.slot) - 1
    since = np.where(last >= 0, shots.slot - slots[np.maximum(last, 0)], pair.settings.n_pulses)
    live = shots.slot[since * pair.period_ps >= pair.dead_time_ps]
    return live.size, int(np.sum(~np.isin(live, slots))), shots.seen


def a_self_test_of_a_block_that_was_never_armed_is_refused(pair: SelfTestedPair) -> None:
    block_id = next(pair.block_ids)
    require_down(lambda: pair.self_test.shots(block_id), "asking for shots")


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


def _in_time(pair: Pair, call: Callable[[], object]) -> None:
    started = monotonic()
    require_down(call, "a block that cannot be")
    took = monotonic() - started
    require(took < 3 * pair.patience_s + pair.block_s, f"it took {took:.1f} s to give up")
