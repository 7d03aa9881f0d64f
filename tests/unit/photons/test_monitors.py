"""Monitors of the detectors: seldom wrong, and tripped by name where Eve touches the device.

Every statistical test has fixed seeds; its false-alarm probability is beside it.
"""

import os
from dataclasses import dataclass, replace
from math import ceil, log, sqrt

import numpy as np
import pytest

from qkd_core.errors import ConfigError, MonitorTripped
from qkd_core.photons import monitors
from qkd_core.photons.alignment import align
from qkd_core.photons.monitors import (
    ARRIVAL,
    BALANCE,
    DOUBLE,
    PARTS,
    SELF_TEST,
    Watch,
    doubles_per_event,
    live_slots,
    require_alike,
    require_balanced,
    require_doubles,
    require_seen,
)
from qkd_core.types.blocks import Detections, RawKey
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.monitors import MonitorSettings, Shots
from qkd_sim_link.attacks.blinding import Blinding
from qkd_sim_link.attacks.time_shift import TimeShift
from qkd_sim_link.attacks.truth import TruthSink
from qkd_sim_link.physics.channel import unevenness
from qkd_sim_link.physics.decoy_bb84 import Optics
from qkd_sim_link.sampling.counts import block_totals
from qkd_sim_link.sampling.drift import course_of
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.self_test import fired, with_shots
from qkd_sim_link.scenarios.pulses import DEFAULT, SelfTestSource, load

SCENARIO = load(DEFAULT)
SETTINGS = replace(SCENARIO.source.settings(), n_pulses=400_000_000)
LAW = ClickLaw.of(SCENARIO, SETTINGS)
N_DEAD = LAW.hold_off.n_dead
SOURCE = SelfTestSource(rate_hz=2000.0, seen=0.9, source="made up")
ALL = MonitorSettings(
    false_alarm=1e-9,
    dead_time_ps=2e6,
    arrival_distance=0.05,
    double_click_share=0.2,
    self_test=True,
    balance_share=0.1,
)
OFF = replace(
    ALL, arrival_distance=None, double_click_share=None, self_test=False, balance_share=None
)
ONLY = {
    ARRIVAL: replace(OFF, arrival_distance=0.05),
    DOUBLE: replace(OFF, double_click_share=0.2),
    SELF_TEST: replace(OFF, self_test=True),
    BALANCE: replace(OFF, balance_share=0.1),
}
BLOCK = BlockId(1)


@dataclass(frozen=True)
class Plan:
    """What a watch reads of a plan."""

    settings = SETTINGS
    qber_expected = 0.0135


@dataclass
class Device:
    """Bob's end, with light of its own; ``eve`` may have the link."""

    eve: object = None
    seed: int = 0

    def detections(self, seed: int) -> Detections:
        self.seed = seed
        clicks = sample(LAW, seed)
        if self.eve:
            rng = np.random.default_rng(seed)
            clicks = self.eve.tampered(BLOCK, clicks, 1e12 / SETTINGS.clock_hz, rng)
        if not (self.eve and self.eve.blinds):
            clicks = with_shots(clicks, fired(SOURCE, LAW, seed), SOURCE.seen, LAW, seed)
        return Detections(BLOCK, *clicks, Provenance.SIMULATED)

    def shots(self, block_id) -> Shots:
        return Shots(fired(SOURCE, LAW, self.seed), SOURCE.seen)


def passed(watch: Watch, device: Device, seed: int) -> RawKey:
    detections = device.detections(seed)
    raw = align(detections, SETTINGS, os.urandom)
    return watch.passed(detections, raw, Plan())


def trips(check, *arguments) -> bool:
    try:
        check(*arguments)
    except MonitorTripped:
        return True
    return False


def at_most(n: int, probability: float) -> int:
    """More events of ``n`` are rarer than 1e-6."""
    mean = n * probability
    return ceil(mean + sqrt(2 * mean * log(1e6)) + 2 / 3 * log(1e6))


def test_healthy_blocks_pass_all_monitors_and_lose_the_self_test_only():
    """Four blocks: false alarm 4e-9."""
    device = Device()
    watch = Watch(ALL, device)
    for seed in range(4):
        kept = passed(watch, device, seed)
        shots = device.shots(BLOCK).slot
        assert not np.isin(kept.slot, shots).any()
        assert kept.slot.size == kept.bit.size == kept.basis.size > 90_000


@pytest.mark.parametrize(
    ("eve", "monitor"),
    [
        (TimeShift(shift_ps=120.0, mismatch=0.2, sink=TruthSink()), ARRIVAL),
        (Blinding(sink=TruthSink()), DOUBLE),
        (Blinding(sink=TruthSink()), SELF_TEST),
    ],
)
def test_an_attack_trips_its_monitor_and_no_other(eve, monitor):
    """The monitor that is named trips alone and among all; the others alone stay still."""
    device = Device(eve)
    for name, settings in ONLY.items():
        watch = Watch(settings, device)
        if name == monitor:
            with pytest.raises(MonitorTripped, match=f"^monitor {monitor}"):
                passed(watch, device, 100)
        elif not (eve.blinds and name in (DOUBLE, SELF_TEST)):
            passed(watch, device, 100)
    with pytest.raises(MonitorTripped):
        passed(Watch(ALL, device), device, 101)


def test_arrival_times_that_are_alike_but_not_as_before_trip():
    """A shift that tells nothing yet: both detectors' light comes early or late alike."""
    device, shifted = Device(), Device(TimeShift(shift_ps=120.0, mismatch=1.0, sink=TruthSink()))
    watch = Watch(ONLY[ARRIVAL], device)
    for seed in range(200, 202):
        passed(watch, device, seed)

    with pytest.raises(MonitorTripped, match="detector 0 and before"):
        passed(watch, shifted, 202)
    passed(watch, device, 203)


def test_the_first_blocks_are_the_reference_for_good():
    """Later blocks do not move it, so that nobody can shift it step by step."""
    device = Device()
    watch = Watch(replace(ONLY[ARRIVAL], arrival_distance=0.5), device)
    for seed in range(300, 300 + monitors.REFERENCE_BLOCKS):
        passed(watch, device, seed)
    before = watch.arrivals.reference.copy()

    passed(watch, device, 310)

    np.testing.assert_array_equal(watch.arrivals.reference, before)


def test_a_shift_that_passes_tells_little():
    """The guess is right with (1 + distance) / 2 at most, if each arrival time shows its shift."""
    sink = TruthSink()
    device = Device(TimeShift(shift_ps=120.0, mismatch=0.95, sink=sink))

    kept = passed(Watch(ONLY[ARRIVAL], device), device, 400)

    overheard = sink.blocks[BLOCK]
    place = np.searchsorted(overheard.slot, kept.slot)
    right = float(np.mean(overheard.bit[np.minimum(place, place.size - 1)] == kept.bit))
    assert 0.5 < right < (1 + 0.05 + 0.06) / 2  # the limit, with its allowance for chance


def test_an_eve_who_blinds_a_small_part_of_a_block_passes():
    """Why monitors are no proof: she knows each bit of the first tenth, and none of them trips."""
    begin = SETTINGS.n_pulses // 10
    clicks, shots = sample(LAW, 450), fired(SOURCE, LAW, 450)
    blinded = Blinding(sink=TruthSink()).tampered(
        BLOCK, tuple(each[clicks[0] < 1000 * begin] for each in clicks), 1000.0, None
    )
    seeing = tuple(each[clicks[0] >= 1000 * begin] for each in clicks)
    tested = with_shots(seeing, shots[shots >= begin], SOURCE.seen, LAW, 450)
    time_ps, detector = (np.concatenate(parts) for parts in zip(blinded, tested, strict=True))
    detections = Detections(BLOCK, time_ps, detector, Provenance.SIMULATED)
    raw = align(detections, SETTINGS, os.urandom)

    kept = Watch(ALL, Device(seed=450)).passed(detections, raw, Plan())

    assert np.sum(kept.slot < begin) > 0.09 * kept.slot.size


def test_a_self_test_without_a_source_or_without_a_shot_is_none():
    device = Device()
    with pytest.raises(MonitorTripped, match=SELF_TEST):
        passed(Watch(ONLY[SELF_TEST]), device, 500)
    device.shots = lambda block_id: Shots(np.empty(0, np.int64), 0.9)
    with pytest.raises(MonitorTripped, match=f"{SELF_TEST}: 0, the limit is 1"):
        passed(Watch(ONLY[SELF_TEST], device), device, 500)


def test_a_block_without_a_click_passes_but_for_the_self_test():
    empty = Detections(BLOCK, np.empty(0, np.int64), np.empty(0, np.uint8), Provenance.SIMULATED)
    raw = align(empty, SETTINGS, os.urandom)
    for settings in (ONLY[ARRIVAL], ONLY[DOUBLE], ONLY[BALANCE]):
        assert Watch(settings).passed(empty, raw, Plan()).slot.size == 0


def test_too_many_double_clicks_trip():
    """As when a second source shines in: 1 % of the clicks come with one of the other detector."""
    detections = Device().detections(600)
    second = np.arange(0, detections.time_ps.size, 100)
    time_ps = np.concatenate([detections.time_ps, detections.time_ps[second] + 1])
    detector = np.concatenate([detections.detector, detections.detector[second] ^ np.uint8(1)])
    order = np.argsort(time_ps, kind="stable")
    bright = Detections(BLOCK, time_ps[order], detector[order], Provenance.SIMULATED)

    with pytest.raises(MonitorTripped, match="too many"):
        Watch(ONLY[DOUBLE]).passed(bright, align(bright, SETTINGS, os.urandom), Plan())


@pytest.mark.parametrize(
    ("length_km", "n_dead", "n_pulses"),
    [(5.0, 1, 20_000_000), (5.0, 2000, 200_000_000), (50.0, 100, 200_000_000)],
)
def test_double_clicks_are_as_many_as_predicted(length_km, n_dead, n_pulses):
    """Within 5 standard deviations and 5 %, which afterpulses and dark counts take."""
    fibre = replace(SCENARIO.fibre, length_km=length_km)
    law = ClickLaw.of(replace(SCENARIO, fibre=fibre), replace(SETTINGS, n_pulses=n_pulses))
    law = replace(law, hold_off=replace(law.hold_off, n_dead=n_dead, afterpulse=0.0))
    time_ps, _ = sample(law, 700)
    slot = np.floor(time_ps / 1000).astype(np.int64)
    n_doubles, n_events = int(np.sum(np.diff(slot) == 0)), np.unique(slot).size
    gain = n_events / (law.settings.n_pulses - (n_dead - 1) * n_events)

    predicted = n_events * doubles_per_event(gain, law.settings, qber=0.01)

    assert abs(n_doubles - predicted) < 0.05 * predicted + 5 * sqrt(predicted)


def test_light_that_changes_makes_more_double_clicks_by_its_unevenness():
    """A pass without dark counts: within 5 standard deviations and 5 %."""
    scenario = load("satellite-pass")
    scenario = replace(
        scenario,
        free_space=replace(scenario.free_space, sky_radiance=0.0),
        detector=replace(scenario.detector, dark_probability_per_gate=0.0),
    )
    settings = scenario.source.settings()
    law = ClickLaw.of(scenario, settings, course_of(scenario, settings, 0.0, 6))
    law = replace(law, hold_off=replace(law.hold_off, n_dead=1, afterpulse=0.0))
    clicks = block_totals(law, 701).clicks
    n_doubles, n_events = int(clicks[..., 2].sum()), int(clicks.sum())

    steady = n_events * doubles_per_event(n_events / settings.n_pulses, settings, qber=0.007)

    predicted = steady * unevenness(scenario, settings)
    assert abs(n_doubles - predicted) < 0.05 * predicted + 5 * sqrt(predicted)
    assert n_doubles > 1.05 * steady + 5 * sqrt(steady)


def test_the_prediction_is_that_of_the_exact_model_without_dark_counts():
    settings, optics = SETTINGS, replace(Optics.of(SCENARIO), dark=0.0)
    p_key = settings.p_key_basis
    equal = p_key**2 + (1 - p_key) ** 2
    doubles = sum(
        p * (equal * optics.equal_bases(mu).double + (1 - equal) * optics.unequal_bases(mu).double)
        for p, mu in zip(settings.probabilities, settings.intensities, strict=True)
    )
    gain = optics.mean_gain(settings)

    found = doubles_per_event(gain, settings, optics.misalignment)

    assert found == pytest.approx(doubles / gain, rel=1e-6)


@pytest.mark.parametrize("off", [0.8, 1.0, 1.2])
def test_double_clicks_trip_no_more_often_than_stated(off):
    """Counts at either end of what is healthy; false alarm 1e-6 each."""
    rng, tail, expected, n = np.random.default_rng(31), 0.02, 150.0, 4_000
    counts = rng.poisson(expected * off, n)

    tripped = sum(trips(require_doubles, int(count), expected, 0.2, tail) for count in counts)

    assert tripped <= at_most(n, 2 * tail)
    assert trips(require_doubles, 40, expected, 0.2, tail)


@pytest.mark.parametrize("detector", range(4))
def test_a_dead_detector_trips_the_balance_of_its_basis(detector):
    """Error rates do not show it, and the key is known to whoever knows which one is dead."""
    seen = Device().detections(650)
    live = seen.detector != detector
    clicks = Detections(BLOCK, seen.time_ps[live], seen.detector[live], Provenance.SIMULATED)
    basis = ("key", "test")[detector // 2]
    with pytest.raises(MonitorTripped, match=f"balance, {basis} basis"):
        Watch(ONLY[BALANCE]).passed(clicks, align(clicks, SETTINGS, os.urandom), Plan())


@pytest.mark.parametrize("off", [0.9, 1.0, 1.1])
def test_the_balance_trips_no_more_often_than_stated(off):
    """Bases of 4,000 and 300 clicks at either end of what is healthy; false alarm 1e-6 each."""
    rng, tail, n = np.random.default_rng(33), 0.02, 4_000
    bases = [(size, rng.binomial(size, off / 2, n)) for size in (4_000, 300)]
    blocks = np.stack([row for size, first in bases for row in (first, size - first)], axis=1)

    tripped = sum(trips(require_balanced, clicks, 0.1, tail) for clicks in blocks)

    assert tripped <= at_most(n, 4 * tail)
    assert trips(require_balanced, np.array([2000, 2000, 90, 210]), 0.1, tail)


def test_arrival_times_of_one_law_trip_no_more_often_than_stated():
    """Samples of unequal size from one law, no distance allowed; false alarm 1e-6."""
    rng, tail, n = np.random.default_rng(32), 0.1, 2_000
    law = np.exp(-0.5 * ((np.arange(PARTS) - 128) / 10.0) ** 2)
    law /= law.sum()
    alike, unlike = (
        np.stack([rng.multinomial(300, law, n), rng.multinomial(900, other, n)], axis=1)
        for other in (law, np.roll(law, 10))
    )

    tripped = sum(trips(require_alike, "either", each, 0.0, tail) for each in alike)

    assert tripped <= at_most(n, 2 * tail)
    assert all(trips(require_alike, "either", each, 0.0, tail) for each in unlike)


@pytest.mark.parametrize("n_live", [5, 60, 1_000])
def test_a_self_test_trips_no_more_often_than_stated_or_than_no_shot_is_seen(n_live):
    """False alarm 1e-6 each."""
    rng, tail, n = np.random.default_rng(33), 0.02, 20_000
    shots = Shots(np.arange(n_live), 0.7)
    seen = rng.binomial(n_live, 0.7, n)

    tripped = sum(trips(require_seen, int(count), n_live, shots, tail) for count in seen)

    assert tripped <= at_most(n, max(tail, 0.3**n_live))
    assert trips(require_seen, 0, n_live, shots, tail)


def test_live_slots_are_those_that_no_click_has_gated_off():
    asked, clicked = np.array([0, 9, 10, 12, 19, 20, 99]), np.array([10, 50])

    np.testing.assert_array_equal(live_slots(asked, clicked, 10), [0, 9, 10, 20, 99])
    np.testing.assert_array_equal(live_slots(asked, clicked[:0], 10), asked)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("false_alarm", 0.0),
        ("false_alarm", 1.0),
        ("dead_time_ps", -1.0),
        ("dead_time_ps", float("nan")),
        ("arrival_distance", 1.0),
        ("double_click_share", -0.1),
    ],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        replace(ALL, **{field: value})
