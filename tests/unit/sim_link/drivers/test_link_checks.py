"""The checks of both ends of a link, and a device that breaks each promise."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from qkd_core.errors import LinkDown
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.monitors import Shots
from qkd_sim_link.conformance import pairs, pulses
from qkd_sim_link.conformance.pairs import PairLink
from qkd_sim_link.conformance.pulses import SelfTestedPair
from qkd_sim_link.conformance.verdicts import Verdict, rows
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.scenarios.pulses import DEFAULT, SelfTestSource, load
from qkd_sim_link.serving.rendezvous import Rendezvous

PATIENCE_S = 0.2
SELF_TEST = SelfTestSource(rate_hz=100_000.0, seen=0.8, source="made up")
PULSES = replace(load(DEFAULT), self_test=SELF_TEST)
PAIRS = load_link("entangled-25km")
PULSE_CHECKS = (*pulses.CHECKS, *pulses.SELF_TEST_CHECKS)


class End:
    """One end of a link in this process; subclasses break a promise."""

    provenance = Provenance.SIMULATED

    def __init__(self, link: Rendezvous, side: Side) -> None:
        self.link, self.side = link, side

    def arm(self, block_id, settings):
        self.link.arm(self.side, block_id, settings)

    def settings(self, block_id, slots):
        return self.link.settings(block_id, slots, PATIENCE_S)

    def detections(self, block_id):
        time_ps, detector = self.link.detections(block_id, PATIENCE_S, self.side)
        return self.told(Detections(block_id, time_ps, detector, self.provenance))

    def tags(self, block_id):
        return self.detections(block_id)

    def shots(self, block_id):
        return Shots(*self.link.shots(block_id, PATIENCE_S))

    def told(self, found):
        return found


def some(found, kept):
    return replace(found, time_ps=found.time_ps[kept], detector=found.detector[kept])


class Half(End):
    """Of which a part of the block is missing."""

    def told(self, found):
        n = found.time_ps.size
        return some(found, np.r_[0 : n // 4, n // 2 : n])


class Backwards(End):
    def told(self, found):
        return replace(found, time_ps=found.time_ps[::-1])


class Restless(End):
    n = 0

    def told(self, found):
        self.n += 1
        return some(found, slice(self.n, None))


class Claiming(End):
    provenance = Provenance.DEVICE


class Moody(End):
    def settings(self, block_id, slots):
        return super().settings(block_id, slots) ^ np.uint8(slots.size % 2)


class Lenient(End):
    def settings(self, block_id, slots):
        return super().settings(block_id, np.clip(slots, 0, 1000))


class Guessing(End):
    def told(self, found):
        drawn = np.random.default_rng(1).integers(0, 4, found.detector.size, np.uint8)
        return replace(found, detector=drawn)


class Doubled(End):
    """Each click comes again five slots later, within the dead time."""

    def told(self, found):
        twice = np.repeat(found.time_ps, 2)
        twice[1::2] += 5000
        order = np.argsort(twice, kind="stable")
        return replace(found, time_ps=twice[order], detector=np.repeat(found.detector, 2)[order])


class Obliging(End):
    """It answers whatever it is asked."""

    def arm(self, block_id, settings):
        try:
            super().arm(block_id, settings)
        except LinkDown:
            return

    def settings(self, block_id, slots):
        try:
            return super().settings(block_id, slots)
        except LinkDown:
            return np.zeros(slots.size, np.uint8)

    def detections(self, block_id):
        try:
            return super().detections(block_id)
        except LinkDown:
            none = np.zeros(0, np.int64), np.zeros(0, np.uint8)
            return Detections(block_id, *none, self.provenance)

    def shots(self, block_id):
        try:
            return super().shots(block_id)
        except LinkDown:
            return Shots(np.zeros(0, np.int64), 0.5)


class SetBack(End):
    def told(self, found):
        return replace(found, time_ps=found.time_ps - found.time_ps[0])


class MovingShots(End):
    n = 0

    def shots(self, block_id):
        self.n += 1
        found = super().shots(block_id)
        return replace(found, slot=found.slot + self.n)


class SameShots(End):
    def shots(self, block_id):
        found = super().shots(block_id)
        return replace(found, slot=np.arange(0, 10_000_000, 10_000))


class BlindToShots(End):
    """As a detector that Eve holds blind."""

    def told(self, found):
        shots = self.link.shots(found.block_id, PATIENCE_S)[0]
        return some(found, ~np.isin(found.time_ps // 1000, shots))


BROKEN_PULSES = (
    (Side.B, Half, "a_block_is_whole_and_in_time_order"),
    (Side.B, Backwards, "a_block_is_whole_and_in_time_order"),
    (Side.B, Restless, "detections_stay_the_same_when_asked_again"),
    (Side.B, Claiming, "both_ends_name_one_provenance"),
    (Side.A, Moody, "settings_do_not_depend_on_how_they_are_asked"),
    (Side.B, Guessing, "equal_bases_give_mostly_equal_bits"),
    (Side.B, Doubled, "dead_time_is_kept_by_both_detectors"),
    (Side.A, Lenient, "slots_outside_the_block_are_refused"),
    (Side.A, Obliging, "a_block_that_was_never_armed_is_refused"),
    (Side.A, Obliging, "alice_does_not_hang_when_bob_never_arms"),
    (Side.B, Obliging, "bob_does_not_hang_when_alice_never_arms"),
    (Side.B, Obliging, "different_settings_make_no_block"),
    (Side.B, Obliging, "arming_the_next_block_ends_the_wait_for_this_one"),
    (Side.B, MovingShots, "shots_lie_in_the_block_and_stay_the_same_when_asked_again"),
    (Side.B, SameShots, "shots_come_in_other_slots_in_each_block"),
    (Side.B, BlindToShots, "live_detectors_see_the_shots"),
    (Side.B, Obliging, "a_self_test_of_a_block_that_was_never_armed_is_refused"),
)
BROKEN_PAIRS = (
    (Side.B, Half, "a_record_is_whole_and_in_time_order"),
    (Side.A, Backwards, "a_record_is_whole_and_in_time_order"),
    (Side.B, Restless, "tags_stay_the_same_when_asked_again"),
    (Side.A, Claiming, "both_ends_name_one_provenance"),
    (Side.B, Guessing, "the_ends_share_light_and_equal_bases_give_mostly_equal_bits"),
    (Side.B, Doubled, "dead_time_is_kept_by_each_detector"),
    (Side.B, SetBack, "clocks_run_on_from_block_to_block"),
    (Side.A, Obliging, "a_block_that_was_never_armed_is_refused"),
    (Side.B, Obliging, "an_end_does_not_hang_when_the_other_never_arms"),
    (Side.B, Obliging, "different_settings_make_no_block"),
    (Side.B, Obliging, "arming_the_next_block_ends_the_wait_for_this_one"),
)


@pytest.fixture(scope="module")
def pulse_link():
    link = Rendezvous(PULSES, 1.0, 7)
    yield link
    link.close()


@pytest.fixture(scope="module")
def pair_link():
    link = Rendezvous(PAIRS, 1.0, 7)
    yield link
    link.close()


NUMBERS = map(BlockId, count(1))


def pulses_of(link, side=Side.B, kind=End) -> SelfTestedPair:
    ends = {each: (kind if each is side else End)(link, each) for each in Side}
    return SelfTestedPair(
        alice=ends[Side.A],
        bob=ends[Side.B],
        settings=replace(PULSES.source.settings(), n_pulses=10_000_000),
        block_ids=NUMBERS,
        dead_time_ps=1e6 * PULSES.detector.dead_time_us,
        jitter_sigma_ps=PULSES.detector.jitter_sigma_ps,
        patience_s=PATIENCE_S,
        self_test=ends[Side.B],
    )


def pairs_of(link, side=Side.B, kind=End) -> PairLink:
    ends = {each: (kind if each is side else End)(link, each) for each in Side}
    return PairLink(
        alice=ends[Side.A],
        bob=ends[Side.B],
        settings=replace(PAIRS.settings, link_s=0.1),
        block_ids=NUMBERS,
        dead_time_ps=1e3 * PAIRS.detector.dead_time_ns,
        jitter_ps=0.0,
        patience_s=PATIENCE_S,
    )


def test_devices_that_keep_their_promises_pass(pulse_link, pair_link):
    found = [
        *rows("both", PULSE_CHECKS, pulses_of(pulse_link)),
        *rows("both", pairs.CHECKS, pairs_of(pair_link)),
    ]
    assert [row for row in found if row.verdict is not Verdict.PASS] == []


@pytest.mark.parametrize(("side", "kind", "check"), BROKEN_PULSES)
def test_a_device_of_pulses_that_breaks_a_promise_is_found(pulse_link, side, kind, check):
    [tried] = [each for each in PULSE_CHECKS if each.__name__ == check]

    [row] = rows("both", [tried], pulses_of(pulse_link, side, kind))
    assert row.verdict is Verdict.FAIL
    assert row.reason


@pytest.mark.parametrize(("side", "kind", "check"), BROKEN_PAIRS)
def test_a_device_of_pairs_that_breaks_a_promise_is_found(pair_link, side, kind, check):
    [tried] = [each for each in pairs.CHECKS if each.__name__ == check]

    [row] = rows("both", [tried], pairs_of(pair_link, side, kind))
    assert row.verdict is Verdict.FAIL
    assert row.reason


def test_every_check_is_failed_by_some_broken_device():
    for checks, broken in ((PULSE_CHECKS, BROKEN_PULSES), (pairs.CHECKS, BROKEN_PAIRS)):
        assert {check for *_, check in broken} == {check.__name__ for check in checks}
