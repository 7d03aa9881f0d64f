"""Every fault of the light, the detectors and the clock shows what it says, in what a site sees.

Each comparison of counts is a standard normal number that must stay below 5, or exceed it where a
fault must show: false alarm below 6e-7 each, with fixed seeds.
"""

import os
import sys
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from qkd_core.errors import LinkDown, MonitorTripped
from qkd_core.photons.alignment import align
from qkd_core.photons.monitors import Watch
from qkd_core.types.ids import Side
from qkd_core.types.monitors import MonitorSettings, Shots
from qkd_sim_link.scenarios.links import load_link

sys.path.insert(0, str(Path(__file__).parent))
from faults_seen import Pairs, Pulses, PulsesSeen, fault

sys.path.pop(0)

Z_MAX = 5.0
SHIPPED, FAINT = load_link("direct-25km"), load_link("direct-100km")
LONG = SHIPPED.source.settings()
SHORT = replace(LONG, n_pulses=100_000_000)
LINK, WATCHED = Pulses(SHIPPED, SHORT), Pulses(SHIPPED, LONG)
DIM = Pulses(FAINT, replace(FAINT.source.settings(), n_pulses=100_000_000))  # hardly a dead time
_PAIRS = load_link("entangled-25km")
ENTANGLED = Pairs(replace(_PAIRS, settings=replace(_PAIRS.settings, link_s=1.0)))
KEY, TEST = 0, 1
VACUUM = 2  # place of the weakest intensity
MONITORS = MonitorSettings(
    false_alarm=1e-9,
    dead_time_ps=2e6,
    arrival_distance=0.05,
    double_click_share=0.2,
    self_test=True,
)


class Plan:
    """What a watch reads of a plan."""

    settings = LONG
    qber_expected = 0.0135


def under(link, *faults):
    return replace(link, faults=faults)


def z_of(first: float, second: float) -> float:
    """Of two counts that should be alike."""
    return (first - second) / np.sqrt(np.maximum(1, first + second))


def z_of_rates(first: tuple[float, int], second: tuple[float, int]) -> float:
    """Of two error rates that should be alike, each with the number of events."""
    (p, n), (q, m) = first, second
    mean = (p * n + q * m) / (n + m)
    return (p - q) / sqrt(mean * (1 - mean) * (1 / n + 1 / m))


def live(seen: PulsesSeen) -> np.ndarray:
    """Clicks of each detector, as if it had been live all the time: Bob knows his dead time."""
    dead = seen.clicks.sum() * FAINT.detector.dead_time_us * 1e-6
    return seen.clicks / (1 - dead / seen.settings.link_s)


def watched(watch: Watch, link: Pulses, seed: int) -> int:
    """How many events a block has left for the key. Raises MonitorTripped."""
    watch.device = Self(link, seed)
    seen = link.block(seed)
    raw = align(seen.detections, link.settings, os.urandom)
    return watch.passed(seen.detections, raw, Plan()).slot.size


class Self:
    """Bob's own light."""

    def __init__(self, link: Pulses, seed: int) -> None:
        self.shots = lambda block_id: Shots(*link.shots(seed))


@pytest.fixture(scope="module")
def healthy() -> PulsesSeen:
    return LINK.block(1)


@pytest.fixture(scope="module")
def dim() -> PulsesSeen:
    return DIM.block(1)


def test_loss_takes_clicks_of_all_detectors_and_leaves_error_rates(dim):
    seen = under(DIM, fault("loss-step", db=3)).block(2)

    for before, after in zip(live(dim), live(seen), strict=True):
        assert abs(z_of(before * 10**-0.3, after)) < Z_MAX
    for basis in (KEY, TEST):
        assert abs(z_of_rates(dim.qber(basis), seen.qber(basis))) < Z_MAX


def test_loss_within_a_block_begins_and_ends_with_its_fault(dim):
    seen = under(DIM, fault("loss-step", db=20, start_s=0.02, end_s=0.06)).block(3)
    time_s = seen.detections.time_ps * 1e-12

    counts = np.histogram(time_s, [0, 0.02, 0.06, 0.1])[0]

    each = dim.clicks.sum() / 5
    for count, mean in zip(counts, (each, 0.02 * each, 2 * each), strict=True):
        assert abs(count - mean) < Z_MAX * sqrt(2 * mean) + 0.004 * each  # borders move


def test_a_ramp_falls_along_a_straight_line_in_db(dim):
    link = under(DIM, fault("loss-ramp", db=6, ramp_s=30))

    counts = [live(link.block(seed, 10.0 * seed)).sum() for seed in range(5)]

    for lost_db, count in zip((0, 2, 4, 6, 6), counts, strict=True):
        assert abs(z_of(live(dim).sum() * 10 ** (-lost_db / 10), count)) < Z_MAX


def test_misalignment_shows_in_the_error_rate_of_its_basis_alone(healthy):
    seen = under(LINK, fault("misalignment", test_error=0.05)).block(4)

    assert seen.qber(TEST)[0] > 0.04 + healthy.qber(TEST)[0]
    assert abs(z_of_rates(healthy.qber(KEY), seen.qber(KEY))) < Z_MAX
    assert abs(z_of(healthy.clicks.sum(), seen.clicks.sum())) < Z_MAX


def test_a_clock_of_pulses_that_steps_by_a_period_makes_half_of_the_bits_wrong(healthy):
    seen = under(LINK, fault("clock-step", step_ns=1.0)).block(5)

    for basis in (KEY, TEST):
        assert abs(z_of_rates((0.5, 10**9), seen.qber(basis))) < Z_MAX
    assert abs(z_of(healthy.clicks.sum(), seen.clicks.sum())) < Z_MAX


def test_a_clock_of_pulses_that_steps_within_a_block_trips_the_arrival_times():
    watch = Watch(MONITORS)
    watched(watch, WATCHED, 6)
    stepped = under(WATCHED, fault("clock-step", step_ns=0.2, start_s=0.5))

    with pytest.raises(MonitorTripped, match="arrival times, detector 0 and before"):
        watched(watch, stepped, 7)


def test_a_clock_of_pulses_that_drifts_loses_the_slots():
    """Half of a period, 500 ps, is reached after 0.05 s."""
    seen = under(LINK, fault("clock-drift", ppm=0.01)).block(8)
    early, late = (np.searchsorted(seen.raw.slot, bound) for bound in (30_000_000, 70_000_000))

    assert _wrong(seen, slice(early)) < 0.1
    assert _wrong(seen, slice(late, None)) > 0.4


def _wrong(seen: PulsesSeen, part: slice) -> float:
    raw = seen.raw
    shown = replace(
        raw, slot=raw.slot[part], basis=raw.basis[part].copy(), bit=raw.bit[part].copy()
    )
    some = PulsesSeen(seen.settings, seen.seed, seen.detections)
    object.__setattr__(some, "raw", shown)
    return some.qber(KEY)[0]


def test_dark_counts_show_in_the_vacuum_gain_and_the_error_rates(dim):
    seen = under(DIM, fault("dark-rise", factor=1000)).block(9)
    before, after = (block.tally(KEY)[0][VACUUM] for block in (dim, seen))

    assert z_of(after, before) > Z_MAX
    for basis in (KEY, TEST):
        assert z_of_rates(seen.qber(basis), dim.qber(basis)) > Z_MAX


def test_dark_counts_of_one_detector_show_in_its_clicks(dim):
    seen = under(DIM, fault("dark-rise", factor=3000, detector="1")).block(10)

    assert z_of(seen.clicks[1], dim.clicks[1]) > 4 * Z_MAX
    assert abs(z_of(seen.clicks[0], dim.clicks[0])) < 2 * Z_MAX  # a dead time is shared


def test_bursts_of_a_cryostat_make_counts_vary_more_than_chance_and_together(dim):
    """Fano factors of 400 bins: chance alone is within 5 sqrt(2 / 400) of 1."""
    burst = fault("cryostat-burst", rate_hz=200, length_ms=1, efficiency_factor=0.2)
    seen = under(DIM, burst).block(11)
    bins = np.linspace(0, 1e11, 401)

    def counts(block: PulsesSeen, bit: int) -> np.ndarray:
        of = block.detections.detector & 1 == bit
        return np.histogram(block.detections.time_ps[of], bins)[0]

    for bit in range(2):
        assert abs(counts(dim, bit).var() / counts(dim, bit).mean() - 1) < Z_MAX * sqrt(2 / 400)
        assert counts(seen, bit).var() / counts(seen, bit).mean() > 3
    assert np.corrcoef(counts(seen, 0), counts(seen, 1))[0, 1] > 0.8
    assert abs(np.corrcoef(counts(dim, 0), counts(dim, 1))[0, 1]) < Z_MAX / sqrt(400)


def test_blocks_that_share_a_second_see_the_same_bursts():
    burst = fault("cryostat-burst", rate_hz=20, length_ms=5, efficiency_factor=0)
    link = under(DIM, burst)
    first, second = (link.block(seed).detections.time_ps for seed in (1, 2))

    gaps = [np.histogram(time, np.linspace(0, 1e11, 101))[0] == 0 for time in (first, second)]

    assert gaps[0].sum() > 5
    assert np.sum(gaps[0] != gaps[1]) < 5  # of a bin that a burst fills nearly


def test_a_detector_that_latches_is_silent_and_ends_blocks_by_a_monitor_until_it_is_reset(healthy):
    """Error rates do not show it, and the bits are nearly all the other one."""
    latched = fault("detector-latch", detector="1", end_s=100.0)
    seen = under(LINK, latched).block(12)
    watch = Watch(MONITORS)

    assert seen.clicks[1] == 0
    assert seen.clicks[0] > 1000
    assert abs(z_of_rates(healthy.qber(KEY), seen.qber(KEY))) < Z_MAX
    with pytest.raises(MonitorTripped, match="self-test"):
        watched(watch, under(WATCHED, latched), 13)
    watch.settings = replace(MONITORS, self_test=False)
    with pytest.raises(MonitorTripped, match="double clicks, too few"):
        watched(watch, under(WATCHED, latched), 13)
    assert watched(watch, under(WATCHED, replace(latched, end_s=-1.0)), 13) > 90_000


def test_blinded_detectors_see_nothing_not_even_their_own_light():
    blind = under(WATCHED, fault("blinding"))

    assert blind.block(14).clicks.sum() == 0
    with pytest.raises(MonitorTripped, match="self-test: 0, the limit is"):
        watched(Watch(MONITORS), blind, 14)


def test_an_ageing_detector_falls_at_its_slope_against_the_other(dim):
    link = under(DIM, fault("ageing", db_per_day=1, detector="0"))

    blocks = [link.block(15 + day, 86_400.0 * day).clicks for day in range(4)]

    for day, (aged, other) in enumerate(blocks):
        assert abs(z_of(dim.clicks[0] * 10 ** (-day / 10), aged)) < Z_MAX
        assert abs(z_of(dim.clicks[1], other)) < Z_MAX


@pytest.fixture(scope="module")
def pairs():
    return ENTANGLED.blocks((1, 0.0))


def test_the_offset_of_the_peers_clock_shows_a_step(pairs):
    (stepped,) = under(ENTANGLED, fault("clock-step", step_ns=40_000)).blocks((1, 0.0))
    (before_s, _), *counts_before = pairs[0].coincidences()
    (after_s, _), *counts_after = stepped.coincidences()

    assert after_s - before_s == pytest.approx(40e-6, abs=1e-9)
    for before, after in zip(counts_before, counts_after, strict=True):
        assert np.all(np.abs(z_of(before, after)) < Z_MAX)
    assert abs(z_of(stepped.clicks(Side.B).sum(), pairs[0].clicks(Side.B).sum())) < Z_MAX


def test_the_drift_of_the_peers_clock_shows_that_of_its_reference(pairs):
    (drifted,) = under(ENTANGLED, fault("clock-drift", ppm=2.5)).blocks((1, 0.0))

    (_, before), *_ = pairs[0].coincidences()
    (_, after), *_ = drifted.coincidences()

    assert after - before == pytest.approx(2.5, abs=1e-4)


def test_without_its_reference_the_drift_walks_until_nobody_can_follow():
    """The reference is lost after the first block; the second one comes 5 s later."""
    first, still, walked, lost = (
        under(ENTANGLED, *faults).blocks((1, 0.0), (2, 5.0))[place]
        for place, faults in (
            (0, ()),
            (1, ()),
            (1, (fault("clock-lost", start_s=1.0, wander=3e-10),)),
            (1, (fault("clock-lost", start_s=1.0, wander=1e-6),)),
        )
    )
    before = first.clock()

    assert still.followed(before)
    assert walked.followed(before)
    assert not lost.followed(before)
    moved_ppm = 1e6 * abs(walked.clock().drift - still.clock().drift)
    assert moved_ppm > 10 * 1e6 * 6e-12  # to which the drift is found
    assert abs(z_of(lost.clicks(Side.B).sum(), still.clicks(Side.B).sum())) < Z_MAX


def test_loss_of_pairs_at_one_end_falls_on_its_clicks_and_on_coincidences(pairs):
    (seen,) = under(ENTANGLED, fault("loss-step", db=3, end="a")).blocks((3, 0.0))
    _, before, _ = pairs[0].coincidences()
    _, after, wrong = seen.coincidences()

    half = 10**-0.3
    for had, has in zip(pairs[0].clicks(Side.A), seen.clicks(Side.A), strict=True):
        assert abs(z_of(had * half, has)) < Z_MAX + 0.01 * sqrt(had)  # dead times
    assert abs(z_of(pairs[0].clicks(Side.B).sum(), seen.clicks(Side.B).sum())) < Z_MAX
    for had, has in zip(before, after, strict=True):
        assert abs(z_of(had * half, has)) < Z_MAX + 0.01 * sqrt(had)
    assert np.all(wrong < 0.03 * after)


def test_faults_of_the_detectors_of_pairs_show_at_their_end(pairs):
    """One detector latches, its neighbour has more dark counts, the test basis is turned."""
    (seen,) = under(
        ENTANGLED,
        fault("detector-latch", detector="2", end="a"),
        fault("dark-rise", factor=2000, detector="1", end="a"),
        fault("misalignment", test_error=0.1),
    ).blocks((4, 0.0))
    before, after = pairs[0].clicks(Side.A), seen.clicks(Side.A)

    link_s = ENTANGLED.scenario.settings.link_s
    assert after[2] == 0
    assert abs(z_of(before[1] + 1999 * 100 * link_s, after[1])) < Z_MAX + 0.02 * sqrt(after[1])
    assert abs(z_of(before[3], after[3])) < Z_MAX
    assert abs(z_of(pairs[0].clicks(Side.B).sum(), seen.clicks(Side.B).sum())) < Z_MAX
    _, n, wrong = seen.coincidences()
    assert wrong[TEST] / n[TEST] > 0.08
    assert wrong[KEY] / n[KEY] < 0.05


def test_more_dark_counts_than_a_block_has_room_for_take_the_link_down():
    with pytest.raises(LinkDown, match="clicks in a block: at most"):
        under(ENTANGLED, fault("dark-rise", factor=1e5)).blocks((6, 0.0))


def test_repeaters_out_of_step_make_errors_while_heralds_and_clicks_stay():
    chain = Pairs(load_link("repeater-1-hop"))
    (before,) = chain.blocks((5, 0.0))
    apart = chain.scenario.station.coherence_ps
    (seen,) = under(chain, fault("repeater-desync", apart_ps=apart)).blocks((5, 0.0))

    for side in Side:
        assert abs(z_of(before.clicks(side).sum(), seen.clicks(side).sum())) < Z_MAX
    _, had, wrong_before = before.coincidences()
    _, has, wrong = seen.coincidences()
    assert abs(z_of(had.sum(), has.sum())) < Z_MAX
    assert wrong.sum() / has.sum() > 0.05 + wrong_before.sum() / had.sum()
