"""The ends of a chain of repeaters: clicks in announced gates, the correction, the clock search.

Every statistic is turned into a standard normal number and must stay below 5: the false-alarm
probability is below 6e-7 for each, with fixed seeds.
"""

import os
from dataclasses import replace
from importlib.resources import files
from math import ceil, sqrt

import numpy as np
import pytest

from qkd_core.errors import ConfigError
from qkd_core.photons.clock import ClockRelation, acquired, coincidences
from qkd_core.photons.coincidences import Events, events_of
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_sim_link.physics.chain import Chain, Reading, expected_repeater_model
from qkd_sim_link.physics.heralding import flight_s
from qkd_sim_link.sampling.herald import Timing, play
from qkd_sim_link.sampling.readings import RepeaterLaw, corrected, outcomes, sample_repeater
from qkd_sim_link.sampling.records import Clocks
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.scenarios.repeaters import RepeaterScenario

Z_MAX = 5.0
NAMES = ("repeater-1-hop", "repeater-4-hops")
CLOCKS = Clocks(alice_ps=10**12, bob_ps=-(10**11), drift=1e-9, skew_ps=1_500_000_000)
TRUE = ClockRelation(CLOCKS.alice_ps, CLOCKS.bob_ps, CLOCKS.drift)
SEED = 21


def shipped(name: str = NAMES[0]) -> RepeaterScenario:
    scenario = load_link(name)
    assert isinstance(scenario, RepeaterScenario)
    return scenario


def noisy() -> RepeaterScenario:
    """Darks and noise photons in many gates, and a window that cuts."""
    scenario = shipped()
    return replace(
        scenario,
        node=replace(scenario.node, noise=0.02),
        detector=replace(scenario.detector, dark_rate_hz=2e5, jitter_sigma_ps=150.0),
        settings=replace(scenario.settings, window_ps=700),
    )


SCENARIOS = {"shipped": shipped, "noisy": noisy}


@pytest.fixture(scope="module", params=SCENARIOS)
def drawn(request):
    scenario = SCENARIOS[request.param]()
    return scenario, sample_repeater(RepeaterLaw(scenario, scenario.settings), CLOCKS, SEED)


def events(scenario, tags) -> dict[Side, Events]:
    return {
        side: events_of(
            Detections(BlockId(1), *tags[side], Provenance.SIMULATED), scenario.settings, os.urandom
        )
        for side in Side
    }


def z_of_count(seen, mean):
    return (seen - mean) / sqrt(mean)


def test_coincidences_and_their_errors_are_those_of_the_law(drawn):
    scenario, tags = drawn
    model, found = expected_repeater_model(scenario), events(scenario, tags)
    seconds = scenario.settings.link_s - CLOCKS.skew_ps * 1e-12  # both ends' records overlap
    a, b = found[Side.A], found[Side.B]

    in_a, in_b = coincidences(a.time_ps, TRUE.to_alice(b.time_ps), scenario.settings.window_ps // 2)

    ours, theirs = a.outcome[in_a], b.outcome[in_b]
    for basis, rate, qber in (
        (0, model.key_rate_hz, model.key_qber),
        (1, model.test_rate_hz, model.test_qber),
    ):
        both = (ours >> 1 == basis) & (theirs >> 1 == basis)
        errors = int(np.sum(ours[both] != theirs[both]))
        assert abs(z_of_count(both.sum(), rate * seconds)) < Z_MAX
        assert abs(z_of_count(errors, both.sum() * qber)) < Z_MAX


def test_each_end_clicks_as_often_as_the_law_says(drawn):
    scenario, tags = drawn
    mean = RepeaterLaw(scenario, scenario.settings).expected_clicks()
    missed = Reading.of(scenario).noise  # by a detector that is blind within the gate, at most
    for side in Side:
        assert abs(tags[side][0].size - mean) < Z_MAX * sqrt(mean) + missed**2 * mean


def test_an_end_keeps_only_clicks_in_announced_gates(drawn):
    scenario, tags = drawn
    timing, settings = Timing.of(scenario), scenario.settings
    begin, end = CLOCKS.span_ps(settings.link_s * 1e12)
    pairs = play(scenario, ceil((end - begin) / timing.attempt_ps), SEED).pairs
    moments = begin + timing.begins(pairs.attempt, pairs.slot)
    half_gate = 1e3 * scenario.receiver.gate_ns / 2
    for side in Side:
        time = tags[side][0]
        by_alice = (time if side is Side.A else TRUE.to_alice(time)) - CLOCKS.alice_ps
        after = np.searchsorted(moments, by_alice).clip(1, moments.size - 1)
        away = np.minimum(np.abs(by_alice - moments[after]), np.abs(by_alice - moments[after - 1]))
        assert away.max() <= half_gate + 2  # the clocks round to a picosecond
        assert np.all(np.diff(time) >= 0)


def test_a_record_is_within_the_block_by_the_ends_own_clock(drawn):
    scenario, tags = drawn
    length = scenario.settings.link_s * 1e12
    begun = {Side.A: CLOCKS.alice_ps, Side.B: TRUE.to_bob(CLOCKS.alice_ps + CLOCKS.skew_ps)}
    for side in Side:
        time, detector = tags[side]
        assert time.dtype == np.int64
        assert detector.dtype == np.uint8
        assert begun[side] - 1 <= time[0] < begun[side] + 10**11
        assert time[-1] <= begun[side] + length * (1 + 1e-8)
        assert set(np.unique(detector)) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", NAMES)
def test_the_clocks_are_found_from_nothing(name):
    scenario = shipped(name)
    settings = replace(scenario.settings, link_s=10.0)
    tags = sample_repeater(RepeaterLaw(scenario, settings), CLOCKS, SEED)
    found = events(scenario, tags)

    clock = acquired(found[Side.A].time_ps, found[Side.B].time_ps)

    for time in (found[Side.A].time_ps[0], found[Side.A].time_ps[-1]):
        assert abs(clock.to_bob(int(time)) - TRUE.to_bob(int(time))) < 20


def test_bobs_device_corrects_his_bits_by_what_is_announced_and_nothing_else():
    """The four frames on the four detectors, basis << 1 | bit."""
    detector = np.tile(np.arange(4, dtype=np.uint8), 4)
    frame = np.repeat(np.arange(4, dtype=np.uint8), 4)

    told = corrected(detector, frame).reshape(4, 4)

    np.testing.assert_array_equal(told[0], [0, 1, 2, 3])
    np.testing.assert_array_equal(told[1], [1, 0, 2, 3])  # x: the key basis
    np.testing.assert_array_equal(told[2], [0, 1, 3, 2])  # z: the test basis
    np.testing.assert_array_equal(told[3], [1, 0, 3, 2])
    np.testing.assert_array_equal(corrected(corrected(detector, frame), frame), detector)


def test_without_the_correction_the_ends_do_not_agree_and_with_it_they_do():
    scenario = shipped()
    pairs = play(scenario, 50_000, 5).pairs
    a, b = outcomes(pairs, scenario, np.random.default_rng(6))
    state = Chain.of(scenario).pair
    for basis, error, before in (
        (0, state.key_error, 1 - state.key_error),
        (1, state.test_error, 0.5),
    ):
        both = (a >> 1 == basis) & (b >> 1 == basis)
        for bob, qber in ((corrected(b, pairs.frame), error), (b, before)):
            wrong = np.sum(a[both] != bob[both])
            assert abs(z_of_count(wrong, both.sum() * qber)) < Z_MAX


def test_announcements_say_nothing_of_either_ends_outcomes():
    """Each end's detectors are as likely under every frame, before and after the correction."""
    scenario = shipped()
    pairs = play(scenario, 50_000, 7).pairs
    a, b = outcomes(pairs, scenario, np.random.default_rng(8))
    for told in (a, b, corrected(b, pairs.frame)):
        for frame in np.unique(pairs.frame):
            for basis in (0, 1):
                some = told[(pairs.frame == frame) & (told >> 1 == basis)]
                ones = int(np.sum(some & 1))
                assert abs(ones - some.size / 2) / sqrt(some.size / 4) < Z_MAX


def test_the_same_seed_gives_the_same_block_and_another_one_another():
    scenario = shipped()
    law = RepeaterLaw(scenario, replace(scenario.settings, link_s=0.2))
    first, again, other = (sample_repeater(law, CLOCKS, seed) for seed in (1, 1, 2))
    for side in Side:
        np.testing.assert_array_equal(first[side][0], again[side][0])
        np.testing.assert_array_equal(first[side][1], again[side][1])
        assert not np.array_equal(first[side][0], other[side][0])


def test_a_block_without_a_pair_has_no_clicks():
    scenario = shipped()
    law = RepeaterLaw(scenario, replace(scenario.settings, link_s=1e-6))
    for times, detectors in sample_repeater(law, replace(CLOCKS, skew_ps=0), 1).values():
        assert times.size == detectors.size == 0


def test_a_chain_without_light_is_refused():
    scenario = shipped()
    dark = replace(scenario, fibre=replace(scenario.fibre, length_km=600.0))
    dark = replace(dark, station=replace(dark.station, dark_rate_hz=0.0))

    with pytest.raises(ConfigError, match="repeater-1-hop: an attempt of a link succeeds with pro"):
        Chain.of(dark)


def test_an_attempt_takes_as_long_as_news_or_as_the_node():
    scenario = shipped()
    there_and_back = flight_s(25.0) + 1e-6

    slow = replace(scenario, chain=replace(scenario.chain, ready_us=300.0))

    assert scenario.attempt_s == pytest.approx(there_and_back)
    assert slow.attempt_s == pytest.approx(3e-4)
    assert Chain.of(slow).rate_hz < Chain.of(scenario).rate_hz


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("hops = 1", "hops = -1", "chain.hops = -1: must be a whole number from 0 to 32"),
        ("slots = 100", "slots = 200", "slots 200: at most 123 of 1000 ns between two attempts"),
        ("slot_ns = 1000.0", "slot_ns = 60.0", "slot_ns 60: at least hold_off_ns and gate_ns tog"),
        ("hold_off_ns = 50.0", "hold_off_ns = 30.0", "hold_off_ns 30: at least dead_time_ns, 40"),
        ("bright = 0.0", "bright = 0.1", "bright 0.1 with scheme two-photons: above 0 with one-p"),
        ('"two-photons"', '"three-photons"', "chain.scheme = 'three-photons': must be one of two"),
        ("fidelity = 0.99", "fidelity = 0.1", "node.fidelity = 0.1: must be a number from 0.25"),
        ("visibility = 0.99", "", "station.visibility is missing"),
        ("link_s = 60.0", "link_s = 60.0\nn_pulses = 7", "block.n_pulses = 7: unknown key"),
    ],
)
def test_an_error_names_file_key_value_and_what_is_allowed(tmp_path, old, new, told):
    text = (files("qkd_sim_link") / "scenarios" / f"{NAMES[0]}.toml").read_text()
    assert text.count(old) == 1
    path = tmp_path / "broken.toml"
    path.write_text(text.replace(old, new))

    with pytest.raises(ConfigError) as error:
        load_link(path)

    assert str(error.value).startswith(f"{path}: ")
    assert told in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_group_names_its_source(name):
    scenario = shipped(name)
    groups = (scenario.chain, scenario.fibre, scenario.node, scenario.station, scenario.receiver)
    assert all(len(group.source) > 20 for group in (*groups, scenario.detector, scenario.clock))
    assert len(scenario.block_source) > 20
