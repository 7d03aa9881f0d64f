"""Monitors of both receivers of pairs: seldom wrong, and tripped by name where Eve touches one.

Every statistical test has fixed seeds; its false-alarm probability is beside it.
"""

import os
from dataclasses import dataclass, replace
from math import ceil, log, sqrt

import numpy as np
import pytest

from qkd_core.errors import ConfigError, MonitorTripped
from qkd_core.kernels.coincidence import form_events
from qkd_core.photons import event_times
from qkd_core.photons.clock import ClockRelation
from qkd_core.photons.coincidences import Lags, events_of, match_alice
from qkd_core.photons.monitors import ARRIVAL, BALANCE, DOUBLE, PARTS, REFERENCE_BLOCKS
from qkd_core.photons.pair_monitors import RATE, Clicks, PairWatch, means_of, parts_of
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.monitors import PairMonitorSettings
from qkd_core.types.plans import PairSettings
from qkd_sim_link.attacks.blinded_receiver import BlindedReceiver
from qkd_sim_link.attacks.shifted_photons import ShiftedPhotons
from qkd_sim_link.attacks.truth import TruthSink
from qkd_sim_link.sampling.pairs import Clocks, PairLaw, sample_pairs
from qkd_sim_link.scenarios.links import load_link

SCENARIO = load_link("entangled-25km")
SETTINGS = SCENARIO.settings
CLOCKS = Clocks(alice_ps=10**12, bob_ps=2 * 10**12, drift=3e-6, skew_ps=0)
ALL = PairMonitorSettings(
    false_alarm=1e-9,
    arrival_distance=0.05,
    double_click_share=0.2,
    rate_share=0.1,
    balance_share=0.1,
)
OFF = replace(
    ALL, arrival_distance=None, double_click_share=None, rate_share=None, balance_share=None
)
ONLY = {
    ARRIVAL: replace(OFF, arrival_distance=0.05),
    DOUBLE: replace(OFF, double_click_share=0.2),
    RATE: replace(OFF, rate_share=0.1),
    BALANCE: replace(OFF, balance_share=0.1),
}
BLOCK = BlockId(1)


def drawn(seed: int, eve=None, scenario=SCENARIO) -> dict[Side, Detections]:
    """One block of the shipped link, with Eve on a fibre of it or not."""
    clicks = sample_pairs(PairLaw(scenario, SETTINGS), CLOCKS, seed)
    if eve is not None:
        clicks = eve.tampered_pairs(BLOCK, clicks, SETTINGS, np.random.default_rng(seed))
    return {side: Detections(BLOCK, *each, Provenance.SIMULATED) for side, each in clicks.items()}


@dataclass
class Bob:
    """The channel to a Bob who says what his events ask for, all at once."""

    events: object
    chosen: np.ndarray | None = None

    def receive_tagged(self, _kind):
        return event_times.encoded(self.events.time_ps, SETTINGS.resolution_ps)

    def send_tagged(self, _kind, body):
        n = self.events.time_ps.size
        mask = np.frombuffer(body, np.uint8)[: (n + 7) // 8]
        self.chosen = np.unpackbits(mask, count=n, bitorder="little").astype(bool)

    def receive(self, _kind):
        return np.packbits(self.events.outcome[self.chosen] >> 1, bitorder="little").tobytes()


def lags_of(tags: dict[Side, Detections]) -> Lags:
    alice, bob = (events_of(tags[side], SETTINGS, os.urandom) for side in Side)
    clock = ClockRelation(CLOCKS.alice_ps, CLOCKS.bob_ps, CLOCKS.drift)
    return match_alice(alice, Bob(bob), SETTINGS, lambda _a, _b: clock).lags


def look(watches: dict[Side, PairWatch], tags: dict[Side, Detections]) -> None:
    """Both ends look at a block, as their engines do."""
    for side, watch in watches.items():
        watch.require_clicks(Clicks.of(tags[side], SETTINGS))
    watches[Side.A].require_lags(lags_of(tags), SETTINGS.window_ps)


def both(settings: PairMonitorSettings) -> dict[Side, PairWatch]:
    return {side: PairWatch(settings) for side in Side}


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


def test_healthy_blocks_pass_all_monitors_of_both_ends():
    """Three blocks at two ends: false alarm 6e-9."""
    watches = both(ALL)
    for seed in range(3):
        look(watches, drawn(seed))


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("kind", [ShiftedPhotons, BlindedReceiver])
def test_an_attack_on_either_receiver_trips_its_monitor_and_no_other(kind, side):
    """The first block under watch; the others stay still with false alarm 2e-9 each."""
    shift = {"shift_ps": 120.0, "mismatch": 0.2} if kind is ShiftedPhotons else {}
    named = ARRIVAL if kind is ShiftedPhotons else DOUBLE
    tags = drawn(100, kind(side=side, sink=TruthSink(), **shift))
    for name, settings in ONLY.items():
        if name == named:
            with pytest.raises(MonitorTripped, match=f"^monitor {name}"):
                look(both(settings), tags)
        else:
            look(both(settings), tags)
    assert trips(look, both(ALL), tags)


@pytest.mark.parametrize("side", list(Side))
def test_photons_that_come_early_or_late_whatever_their_detector_trip_as_not_as_before(side):
    watches = both(ONLY[ARRIVAL])
    look(watches, drawn(200))

    with pytest.raises(MonitorTripped, match="detector 0 and before"):
        shift = ShiftedPhotons(side=side, shift_ps=120.0, mismatch=1.0, sink=TruthSink())
        look(watches, drawn(201, shift))
    look(watches, drawn(202))


@pytest.mark.parametrize("side", list(Side))
def test_a_blinded_receiver_that_clicks_less_than_before_trips_its_rates(side):
    watches = both(ONLY[RATE])
    look(watches, drawn(300))

    with pytest.raises(MonitorTripped, match=r"^monitor rates, clicks of detector 0, too few"):
        look(watches, drawn(301, BlindedReceiver(side=side, sink=TruthSink(), kept=0.7)))


@pytest.mark.parametrize("stuck", [0, 3])
def test_a_detector_that_is_held_down_or_clicks_at_its_own_pace_trips_by_its_number(stuck):
    watches = both(ONLY[RATE])
    tags = drawn(400)
    look(watches, tags)
    bob = tags[Side.B]
    others = bob.detector != stuck
    down = Detections(BLOCK, bob.time_ps[others], bob.detector[others], bob.provenance)
    with pytest.raises(MonitorTripped, match=f"detector {stuck}, too few: 0, the limit"):
        look(watches, tags | {Side.B: down})

    pace = np.arange(bob.time_ps[0], bob.time_ps[-1], 1_000_000)
    time_ps = np.concatenate([down.time_ps, pace])
    detector = np.concatenate([down.detector, np.full(pace.size, stuck, np.uint8)])
    order = np.argsort(time_ps, kind="stable")
    paced = Detections(BLOCK, time_ps[order], detector[order], bob.provenance)
    with pytest.raises(MonitorTripped, match=f"detector {stuck}, too many"):
        look(watches, tags | {Side.B: paced})


def test_a_detector_that_was_never_alive_trips_the_balance_at_once():
    tags = drawn(61)[Side.B]
    live = tags.detector != 3
    dead = Detections(BLOCK, tags.time_ps[live], tags.detector[live], Provenance.SIMULATED)
    with pytest.raises(MonitorTripped, match="balance, test basis, detector 2, too many"):
        PairWatch(ONLY[BALANCE]).require_clicks(Clicks.of(dead, SETTINGS))


def test_the_first_blocks_are_the_reference_of_rates_for_good():
    """A link that brightens step by step leaves it, too."""
    watch = PairWatch(replace(OFF, rate_share=0.5))
    clicks = Clicks.of(drawn(500)[Side.A], SETTINGS)
    for _ in range(REFERENCE_BLOCKS + 2):
        watch.require_clicks(clicks)

    np.testing.assert_array_equal(watch._begun, REFERENCE_BLOCKS * clicks.begun)
    brighter = replace(clicks, begun=2 * clicks.begun)
    assert trips(watch.require_clicks, brighter)


def test_a_shift_that_passes_tells_little():
    """Eve's guess is right with (1 + distance) / 2 at most, if arrival times show their shift."""
    sink = TruthSink()
    eve = ShiftedPhotons(side=Side.B, shift_ps=120.0, mismatch=0.95, sink=sink)
    tags = drawn(600, eve)

    look(both(ONLY[ARRIVAL]), tags)

    right = float(np.mean(sink.blocks[BLOCK].detector == tags[Side.B].detector))
    assert 0.5 < right < (1 + 0.05 + 0.06) / 2  # the limit, with its allowance for chance


def test_an_eve_who_blinds_a_small_part_of_a_block_passes():
    """Why monitors are no proof: she knows each outcome of the first tenth, and nothing trips."""
    tags = drawn(700)
    bob = tags[Side.B]
    early = bob.time_ps < bob.time_ps[0] + (bob.time_ps[-1] - bob.time_ps[0]) // 10
    part = {Side.B: (bob.time_ps[early], bob.detector[early])}
    eve = BlindedReceiver(side=Side.B, sink=TruthSink())
    hers = eve.tampered_pairs(BLOCK, part, SETTINGS, np.random.default_rng(0))[Side.B]
    time_ps = np.concatenate([hers[0], bob.time_ps[~early]])
    detector = np.concatenate([hers[1], bob.detector[~early]])

    look(both(ALL), tags | {Side.B: Detections(BLOCK, time_ps, detector, bob.provenance)})


@pytest.mark.parametrize(("pair_rate_hz", "p_key_basis"), [(4e6, 0.8), (2e7, 0.5)])
def test_double_clicks_are_as_many_as_predicted(pair_rate_hz, p_key_basis):
    """Within 5 standard deviations at either end: false alarm 1.2e-6."""
    scenario = replace(
        SCENARIO,
        source=replace(SCENARIO.source, pair_rate_hz=pair_rate_hz),
        receiver=replace(SCENARIO.receiver, p_key_basis=p_key_basis),
    )
    for tags in drawn(800, scenario=scenario).values():
        clicks = Clicks.of(tags, SETTINGS)
        expected = clicks.doubles_expected

        assert expected > 100
        assert abs(clicks.n_doubles - expected) < 5 * sqrt(expected)


def test_the_census_is_that_of_the_events_one_by_one():
    """Against the sets of detectors that the events of the key are made from."""
    rng = np.random.default_rng(9)
    time_ps = np.sort(rng.integers(0, 400_000_000, 4_000))
    detector = rng.integers(0, 4, time_ps.size, dtype=np.uint8)
    settings = PairSettings(link_s=1.0, window_ps=20_000, hold_off_ps=50_000, resolution_ps=16)
    event_ps, seen = np.empty(time_ps.size, np.int64), np.empty(time_ps.size, np.uint8)
    n = form_events(time_ps, detector, settings.window_ps, settings.hold_off_ps, event_ps, seen)

    clicks = Clicks.of(Detections(BLOCK, time_ps, detector, Provenance.SIMULATED), settings)

    begins = np.searchsorted(time_ps, event_ps[:n])
    assert clicks.n_doubles == int(np.sum(np.bitwise_count(seen[:n]) > 1)) > 100
    np.testing.assert_array_equal(clicks.begun, np.bincount(detector[begins], minlength=4))
    gaps = np.diff(time_ps)
    assert clicks.live_ps == np.maximum(gaps - settings.hold_off_ps, 0).sum()


def test_rates_of_live_detectors_are_those_of_the_light():
    """Whatever the hold-off leaves of a bright light: within 5 standard deviations, 6e-7."""
    rng = np.random.default_rng(10)
    time_ps = np.sort(rng.integers(0, 10**12, 4_000_000))
    tags = Detections(
        BLOCK, time_ps, rng.integers(0, 4, time_ps.size, dtype=np.uint8), Provenance.SIMULATED
    )
    clicks = Clicks.of(tags, SETTINGS)

    n_events = int(clicks.begun.sum())
    assert n_events < 0.9 * time_ps.size
    assert abs(clicks.rate_hz / 4e6 - 1) < 5 / sqrt(n_events)


@pytest.mark.parametrize("off", [0.9, 1.0, 1.1])
def test_rates_trip_no_more_often_than_stated(off):
    """Counts at either end of what is healthy, of four detectors; false alarm 1e-6 each."""
    rng, n, tail = np.random.default_rng(11), 2_000, 0.26 / 26
    settings = replace(OFF, false_alarm=0.26, rate_share=0.1)
    means = np.array([400, 900, 50, 3000])

    def clicks(factor: float, live_ps: int) -> Clicks:
        return Clicks(rng.poisson(means * factor * live_ps / 10**12), live_ps, 0, 0.0)

    tripped = 0
    for _ in range(n):
        watch = PairWatch(settings)
        watch.require_clicks(clicks(1.0, 2 * 10**12))
        tripped += trips(watch.require_clicks, clicks(off, 10**12))

    assert tripped <= at_most(n, 16 * tail)
    far = PairWatch(settings)
    far.require_clicks(clicks(1.0, 2 * 10**12))
    assert trips(far.require_clicks, clicks(1.6, 10**12))


@pytest.mark.parametrize("mean", [3.0, 40.0, 5_000.0])
def test_the_mean_of_a_count_is_outside_its_bounds_no_more_often_than_stated(mean):
    """False alarm 1e-6 for each side."""
    tail, n = 0.02, 20_000
    bounds = np.array([means_of(int(k), tail) for k in np.random.default_rng(12).poisson(mean, n)])

    assert np.sum(bounds[:, 0] > mean) <= at_most(n, tail)
    assert np.sum(bounds[:, 1] < mean) <= at_most(n, tail)
    assert np.all(bounds[:, 0] < bounds[:, 1])


def test_lags_are_counted_in_equal_bases_from_one_end_of_the_window_to_the_other():
    late = np.array([-300, 0, 300, 300])
    outcome = np.array([0, 1, 3, 3], np.uint8)

    seen = parts_of(Lags(late, outcome, np.array([True, True, True, False])), 600)

    assert seen.sum() == 3
    assert seen[0, 0] == seen[1, PARTS // 2 - 1] == seen[3, PARTS - 1] == 1


def test_a_block_without_a_click_passes():
    empty = Detections(BLOCK, np.empty(0, np.int64), np.empty(0, np.uint8), Provenance.SIMULATED)
    clicks = Clicks.of(empty, SETTINGS)
    watch = PairWatch(ALL)

    watch.require_clicks(clicks)

    assert (clicks.n_doubles, clicks.doubles_expected, clicks.rate_hz) == (0, 0, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("false_alarm", 0.0),
        ("false_alarm", 1.0),
        ("arrival_distance", 1.0),
        ("double_click_share", -0.1),
        ("rate_share", float("nan")),
    ],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        replace(ALL, **{field: value})
