"""Sampled pairs against the analytic rates, and what each end's record must keep.

Every statistic is turned into a standard normal number and must stay below 5: the false-alarm
probability is below 6e-7 for each, with fixed seeds.
"""

import os
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import exp, sqrt

import numpy as np
import pytest

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.photons.clock import ClockRelation, coincidences, lag_counts
from qkd_core.photons.coincidences import events_of
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import DecoySettings
from qkd_sim_link.physics.pairs import detector_rates_hz, expected_pair_model, rates
from qkd_sim_link.sampling.pairs import Clocks, PairLaw, sample_pairs
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.scenarios.pairs import PairScenario
from qkd_sim_link.scenarios.pulses import DEFAULT, load
from qkd_sim_link.serving.devices import BlockDraw, PairDevices

Z_MAX = 5.0
NAME, PULSED = "entangled-25km", "entangled-25km-pulsed"
CLOCKS = Clocks(alice_ps=10**12, bob_ps=-(10**11), drift=4e-6, skew_ps=1_500_000_000)
TRUE = ClockRelation(CLOCKS.alice_ps, CLOCKS.bob_ps, CLOCKS.drift)


def shipped(name: str = NAME) -> PairScenario:
    scenario = load_link(name)
    assert isinstance(scenario, PairScenario)
    return scenario


def busy() -> PairScenario:
    """Dark counts, a narrow window and even bases: every term of the law shows."""
    scenario = shipped()
    return replace(
        scenario,
        source=replace(scenario.source, pair_rate_hz=3e6, key_error=0.03, test_error=0.08),
        fibre_b=replace(scenario.fibre_b, length_km=30.0),
        receiver=replace(scenario.receiver, p_key_basis=0.6),
        detector=replace(scenario.detector, dark_rate_hz=50_000.0, jitter_sigma_ps=120.0),
        settings=replace(scenario.settings, link_s=3.0, window_ps=500),
    )


def thermal() -> PairScenario:
    """One mode, many pairs a pulse, wide pulses, and other pulses within the hold-off."""
    scenario = replace(shipped(PULSED), settings=replace(shipped().settings, link_s=1.0))
    return replace(
        scenario,
        source=replace(scenario.source, pair_rate_hz=6e6, key_error=0.02, test_error=0.05),
        pulses=replace(scenario.pulses, rate_hz=2e7, modes=1.0, width_sigma_ps=150.0),
        receiver=replace(scenario.receiver, p_key_basis=0.6),
        detector=replace(scenario.detector, dark_rate_hz=20_000.0),
        settings=replace(scenario.settings, window_ps=2000, hold_off_ps=140_000),
    )


STEADY = {"shipped": shipped, "busy": busy}
SCENARIOS = STEADY | {"pulsed": lambda: shipped(PULSED), "thermal": thermal}


@lru_cache(maxsize=2)
def drawn_of(name):
    scenario = SCENARIOS[name]()
    return scenario, sample_pairs(PairLaw(scenario, scenario.settings), CLOCKS, seed=11)


@pytest.fixture(params=SCENARIOS)
def drawn(request):
    return drawn_of(request.param)


def events(scenario, tags):
    return {
        side: events_of(
            Detections(BlockId(1), *tags[side], Provenance.SIMULATED), scenario.settings, os.urandom
        )
        for side in Side
    }


def z_of_count(seen, mean):
    return (seen - mean) / sqrt(mean)


def test_rates_and_error_rates_are_those_of_the_law(drawn):
    scenario, tags = drawn
    model, found = expected_pair_model(scenario), events(scenario, tags)
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


def test_clicks_are_those_of_the_law(drawn):
    scenario, tags = drawn
    for side in Side:
        seen = np.bincount(tags[side][1], minlength=4)
        for found, rate in zip(seen.tolist(), detector_rates_hz(scenario, side), strict=True):
            assert abs(z_of_count(found, rate * scenario.settings.link_s)) < Z_MAX


@pytest.mark.parametrize("drawn", STEADY, indirect=True)
def test_accidental_and_missed_coincidences_are_those_of_the_law(drawn):
    """Lags beyond the hold-off are of clicks that have nothing to do with each other."""
    scenario, _ = drawn
    settings, law, found = scenario.settings, rates(scenario, scenario.settings), events(*drawn)
    half = settings.window_ps // 2
    seconds = settings.link_s - CLOCKS.skew_ps * 1e-12

    counts = lag_counts(found[Side.A].time_ps, found[Side.B].time_ps, TRUE, (half, 600))

    live = exp(-(law.clicks_a + law.clicks_b) * settings.hold_off_ps * 1e-12)
    by_chance = live * law.clicks_a * law.clicks_b * half * 1e-12 * seconds
    assert 300 * half > settings.hold_off_ps
    far = np.concatenate((counts[:300], counts[-300:]))
    assert abs(z_of_count(far.sum(), 600 * by_chance)) < Z_MAX
    near = np.concatenate((counts[500:590], counts[610:700]))
    beside = counts[590:610].sum() - counts[599:601].sum() - 18 * near.mean()
    spread = sqrt(18 * near.mean() * (1 + 18 / 180) + law.missed * seconds)
    assert abs(beside - law.missed * seconds) / spread < Z_MAX


def test_a_record_is_in_order_within_the_block_and_by_the_ends_own_clock(drawn):
    scenario, tags = drawn
    length = scenario.settings.link_s * 1e12
    begun = {Side.A: CLOCKS.alice_ps, Side.B: TRUE.to_bob(CLOCKS.alice_ps + CLOCKS.skew_ps)}
    for side in Side:
        time_ps, detector = tags[side]
        assert time_ps.dtype == np.int64
        assert detector.dtype == np.uint8
        assert np.all(np.diff(time_ps) >= 0)
        assert begun[side] - 1 <= time_ps[0] < begun[side] + 10**9
        assert time_ps[-1] <= begun[side] + length * (1 + 1e-5)
        assert set(np.unique(detector)) == {0, 1, 2, 3}
        for each in range(4):
            gaps = np.diff(time_ps[detector == each])
            assert gaps.min() >= 1e3 * scenario.detector.dead_time_ns - 1


def test_the_same_seed_gives_the_same_block_and_another_one_another():
    scenario = shipped()
    law = PairLaw(scenario, replace(scenario.settings, link_s=0.01))
    first, again, other = (sample_pairs(law, CLOCKS, seed) for seed in (1, 1, 2))

    for side in Side:
        np.testing.assert_array_equal(first[side][0], again[side][0])
        np.testing.assert_array_equal(first[side][1], again[side][1])
        assert not np.array_equal(first[side][0], other[side][0])


def test_one_clock_runs_on_between_blocks():
    scenario = shipped()
    devices = PairDevices(scenario, seed=3)
    draws = devices.block(replace(scenario.settings, link_s=0.001))
    firsts = []
    for begun_s in (0.0, 10.0, 25.0):
        tags = draws(BlockDraw(BlockId(1), 5, begun_s))
        firsts.append({side: int(tags[side][0][0]) for side in Side})
    drift = scenario.clock.drift_ppm * 1e-6
    skew_ps = 2 * scenario.clock.start_skew_ms * 1e9  # of either block, and the first click's time
    for (before, later), seconds in zip(pairwise(firsts), (10, 15), strict=True):
        assert later[Side.A] - before[Side.A] == pytest.approx(seconds * 1e12, abs=1e9)
        expected = seconds * 1e12 * (1 + drift)
        assert later[Side.B] - before[Side.B] == pytest.approx(expected, abs=skew_ps + 1e9)


def test_clocks_that_have_run_for_weeks_begin_anew():
    devices = PairDevices(shipped(), seed=3)
    draws = devices.block(replace(shipped().settings, link_s=0.001))

    tags = draws(BlockDraw(BlockId(1), 5, 30 * 86_400.0))

    for side in Side:
        assert 0 <= tags[side][0][0] < 1 << 60


def test_settings_that_the_devices_cannot_have_are_refused():
    scenario = shipped()
    devices = PairDevices(scenario, seed=3)
    pulses = load(DEFAULT).source.settings()

    assert isinstance(pulses, DecoySettings)
    with pytest.raises(LinkDown, match="share entangled pairs"):
        devices.block(pulses)
    with pytest.raises(LinkDown, match="link_s 4000"):
        devices.block(replace(scenario.settings, link_s=4000.0))
    with pytest.raises(LinkDown, match="clicks in a block"):
        devices.block(replace(scenario.settings, link_s=3000.0))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("pair_rate_hz = 4e6", "pair_rate_hz = -1.0", "source.pair_rate_hz = -1.0: must be"),
        ("hold_off_ns = 50.0", "hold_off_ns = 30.0", "hold_off_ns 30: at least dead_time_ns, 40"),
        ("window_ps = 600", "window_ps = 8", "resolution_ps 128, window_ps 8"),
        ("wander = 1e-11", "", "clock.wander is missing"),
        ('kind = "pairs"', 'kind = "pears"', "kind = 'pears': must be one of pulses, pairs, repe"),
        ('kind = "pairs"', "", "source.intensities is missing"),
        ("link_s = 2.0", "link_s = 2.0\nn_pulses = 7", "block.n_pulses = 7: unknown key"),
    ],
)
def test_an_error_names_file_key_value_and_what_is_allowed(tmp_path, old, new, told):
    from importlib.resources import files

    text = (files("qkd_sim_link") / "scenarios" / f"{NAME}.toml").read_text()
    assert text.count(old) == 1
    path = tmp_path / "broken.toml"
    path.write_text(text.replace(old, new))

    with pytest.raises(ConfigError) as error:
        load_link(path)

    assert str(error.value).startswith(f"{path}: ")
    assert told in str(error.value)


def test_a_scenario_of_pairs_is_no_scenario_of_pulses():
    with pytest.raises(ConfigError, match="kind = 'pairs': must be 'pulses' here"):
        load(NAME)


def test_every_group_names_its_source():
    scenario = shipped()
    groups = (scenario.source, scenario.fibre_a, scenario.receiver, scenario.detector)
    assert all(len(group.source) > 20 for group in (*groups, scenario.clock))
    assert len(scenario.block_source) > 20
