"""Slots that follow a satellite: the law against a receiver played pulse by pulse, and its clicks.

Statistics are turned into standard normal numbers and must stay below 5: a false-alarm probability
below 6e-7 for each, with fixed seeds.
"""

import sys
from dataclasses import replace
from math import sqrt
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qkd_core.types.ids import Side
from qkd_sim_link.physics.satellite import EARTH_GM, EARTH_KM, pass_s, seen_at, travel_ps
from qkd_sim_link.physics.synchronisation import (
    WORST_READING,
    Heard,
    largest_left_over_ps,
    late_ps,
)
from qkd_sim_link.sampling.drift import course_of
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.synchronised import followed, normals_at
from qkd_sim_link.scenarios.channels import Satellite
from qkd_sim_link.scenarios.pulses import Scenario, SelfTestSource, load
from qkd_sim_link.serving.devices import BlockDraw, devices_of

sys.path.insert(0, str(Path(__file__).parent))
from faults_seen import BLOCK, LINK_SEED, Pulses

sys.path.pop(0)

Z_MAX = 5.0
SATELLITES = st.builds(
    Satellite,
    altitude_km=st.floats(300, 20_000),
    max_elevation_deg=st.floats(25, 90),
    min_elevation_deg=st.floats(5, 20),
    sync_hz=st.floats(1, 1e5),
    sync_jitter_ps=st.just(0.0),
    source=st.just("test"),
)
INSTANTS = st.lists(st.floats(0, 1), min_size=1, max_size=8, unique=True)


def unchecked(scenario: Scenario, **changes: object) -> Scenario:
    """``scenario``, changed in place, whatever `Scenario` would say of it."""
    for name, value in changes.items():
        object.__setattr__(scenario, name, value)
    return scenario


def bright(**changes: float) -> Scenario:
    """The shipped pass from 50 degrees on, with other synchronisation."""
    scenario = load("satellite-pass")
    satellite = replace(scenario.satellite, min_elevation_deg=50.0, **changes)
    return unchecked(scenario, satellite=satellite)


def settings_of(scenario: Scenario, link_s: float):
    armed = scenario.source.settings()
    return replace(armed, n_pulses=round(link_s * armed.clock_hz))


def drawn(scenario: Scenario, link_s: float, seed: int) -> np.ndarray:
    """When the clicks of a block of ``link_s`` are seen."""
    devices = devices_of(scenario, LINK_SEED, None)
    block = devices.block(settings_of(scenario, link_s))
    return block(BlockDraw(BLOCK, seed, 0.0))[Side.B][0]


def emitted(scenario: Scenario, link_s: float, seed: int) -> np.ndarray:
    """The slots of the pulses that the same clicks belong to."""
    armed = settings_of(scenario, link_s)
    law = ClickLaw.of(scenario, armed, course_of(scenario, armed, 0.0, LINK_SEED))
    return sample(law, seed)[0] // int(1e12 / armed.clock_hz)


def without_errors(satellite: Satellite, since_rise_s: np.ndarray) -> np.ndarray:
    heard = Heard.before(satellite, since_rise_s)
    none = np.zeros(heard.pulse.size)
    return late_ps(satellite, since_rise_s, heard, (none, none))


def arrival(satellite: Satellite, emitted_s) -> mpmath.mpf:
    """When light arrives, in s: from places in space, with forty digits."""
    with mpmath.workdps(40):
        orbit = mpmath.mpf(EARTH_KM) + mpmath.mpf(satellite.altitude_km)
        highest = mpmath.radians(satellite.max_elevation_deg)
        aside = mpmath.acos(EARTH_KM * mpmath.cos(highest) / orbit) - highest
        phase = mpmath.sqrt(EARTH_GM / orbit**3) * (emitted_s - pass_s(satellite) / 2)
        along = orbit * mpmath.cos(aside) * mpmath.cos(phase) - EARTH_KM
        across = orbit * mpmath.cos(aside) * mpmath.sin(phase), orbit * mpmath.sin(aside)
        far_km = mpmath.sqrt(along**2 + across[0] ** 2 + across[1] ** 2)
        return emitted_s + far_km / mpmath.mpf("299792.458")


@settings(deadline=None, max_examples=30)
@given(SATELLITES, INSTANTS, st.integers(0, 2**32))
def test_light_is_as_late_as_a_receiver_finds_who_listens_pulse_by_pulse(satellite, parts, seed):
    since_s = np.sort(np.array(parts)) * pass_s(satellite)
    heard = Heard.before(satellite, since_s)
    assume(np.all(((heard.u > 1e-6) | (since_s == 0)) & (heard.u < 1 - 1e-6)))  # which one is clear
    needed = {pulse - back for pulse in heard.pulse.tolist() for back in (0, 1)}
    told = {k: 1e3 * np.random.default_rng((seed, k + 1)).standard_normal() for k in needed}
    errors = tuple(np.array([told[k - back] for k in heard.pulse.tolist()]) for back in (0, 1))

    found = late_ps(satellite, since_s, heard, errors)

    with mpmath.workdps(40):
        for t, late in zip(since_s.tolist(), found.tolist(), strict=True):
            periods = mpmath.mpf(t) * satellite.sync_hz
            k = int(mpmath.floor(periods))
            before, last = (
                10**12 * arrival(satellite, mpmath.mpf(n) / satellite.sync_hz) + told[n]
                for n in (k - 1, k)
            )
            expected = last + (periods - k) * (last - before)
            arrived = 10**12 * arrival(satellite, mpmath.mpf(t))
            assert late == pytest.approx(float(arrived - expected), abs=0.01)


@settings(deadline=None, max_examples=30)
@given(SATELLITES, INSTANTS)
def test_what_is_left_over_is_the_acceleration_over_the_time_since_two_pulses(satellite, parts):
    since_s = np.sort(np.array(parts)) * pass_s(satellite)
    heard = Heard.before(satellite, since_s)
    interval_s = 1 / satellite.sync_hz

    left = without_errors(satellite, since_s)

    gone_s = heard.u * interval_s
    by_rate = -1e12 * seen_at(satellite, since_s).doppler_rate * gone_s * (gone_s + interval_s) / 2
    # the acceleration changes by at most 5 % a second, and rounding is about a femtosecond
    assert left == pytest.approx(by_rate, rel=0.1 * interval_s, abs=0.001)


@settings(deadline=None, max_examples=30)
@given(SATELLITES, INSTANTS)
def test_no_light_of_a_pass_is_later_than_at_culmination(satellite, parts):
    most = largest_left_over_ps(satellite)
    since_s = np.sort(np.array(parts)) * pass_s(satellite)

    left = without_errors(satellite, since_s)

    assert np.all(left <= most * (1 + 1e-9) + 0.001)
    rate = -seen_at(satellite, np.array([pass_s(satellite) / 2])).doppler_rate[0]
    assert most == pytest.approx(1e12 * rate / satellite.sync_hz**2, rel=0.01, abs=0.001)


def test_a_satellite_overhead_is_at_90_degrees_however_it_is_rounded():
    for altitude_km in np.linspace(500, 2000, 301).tolist():
        shipped = load("satellite-pass").satellite
        satellite = replace(shipped, altitude_km=altitude_km, max_elevation_deg=90.0)
        overhead = seen_at(satellite, np.array([pass_s(satellite) / 2]))
        assert overhead.elevation_deg[0] == pytest.approx(90, abs=1e-5)


def test_errors_of_two_measurements_move_the_slots_as_a_straight_line_does():
    satellite = replace(load("satellite-pass").satellite, sync_hz=100.0)
    heard = Heard.before(satellite, np.array([1.0, 1.005, 1.0099999]))

    assert heard.pulse.tolist() == [100]
    moved = [
        late_ps(satellite, np.array([1.0, 1.005, 1.0099999]), heard, errors)
        - without_errors(satellite, np.array([1.0, 1.005, 1.0099999]))
        for errors in ((np.ones(1), np.zeros(1)), (np.zeros(1), np.ones(1)))
    ]
    assert moved[0] == pytest.approx([-1, -1.5, -2], abs=1e-4)
    assert moved[1] == pytest.approx([0, 0.5, 1], abs=1e-4)
    assert np.hypot(moved[0][2], moved[1][2]) == pytest.approx(WORST_READING, abs=1e-4)


def test_an_error_of_a_measurement_is_one_normal_number_wherever_it_is_asked():
    key, index = np.uint64(2**63 + 5), np.arange(-2, 400_000)

    drawn_once, again = normals_at(key, index), normals_at(key, index[::-1].copy())[::-1]

    np.testing.assert_array_equal(drawn_once, again)
    assert np.unique(drawn_once).size == index.size
    assert abs(drawn_once.sum()) / sqrt(index.size) < Z_MAX
    assert abs(np.sum(drawn_once**2) - index.size) / sqrt(2 * index.size) < Z_MAX
    assert abs(drawn_once[1:] @ drawn_once[:-1]) / sqrt(index.size) < Z_MAX
    assert not np.any(drawn_once == normals_at(np.uint64(6), index))
    np.testing.assert_array_equal(drawn_once[:300], normals_at.py_func(key, index[:300]))


def test_tags_before_the_slots_follow_show_the_doppler_shift():
    """The slope of arrival less emission, second by second, beside the shift of the orbit."""
    scenario = bright(sync_hz=20.0, sync_jitter_ps=0.0)
    satellite, link_s = scenario.satellite, 6.0
    period_ps = 1e12 / scenario.source.clock_hz
    slot, seen_ps = emitted(scenario, link_s, 71), drawn(scenario, link_s, 71)
    emitted_s = 1e-12 * period_ps * (slot + 0.5)
    pulse = np.floor(emitted_s * satellite.sync_hz)
    last, before = (travel_ps(satellite, (pulse - n) / satellite.sync_hz) for n in (0, 1))
    followed_ps = last + (emitted_s * satellite.sync_hz - pulse) * (last - before)

    travelled_ps = seen_ps + followed_ps - period_ps * (slot + 0.5)

    middles = np.arange(link_s) + 0.5
    sky = seen_at(satellite, middles)
    for middle, shift in zip(middles, sky.doppler, strict=True):
        now = np.abs(emitted_s - middle) < 0.5
        assert now.sum() > 500
        at_s = emitted_s[now] - middle
        design = at_s[:, None] ** np.arange(5)  # what a fourth power leaves is far below a click's
        slope = np.linalg.lstsq(design, travelled_ps[now], rcond=None)[0][1]
        sigma = scenario.detector.jitter_sigma_ps * sqrt(np.linalg.inv(design.T @ design)[1, 1])
        assert sigma < 1e-4 * 1e12 * shift
        assert abs(slope + 1e12 * shift) < Z_MAX * sigma
    assert np.all(np.diff(sky.doppler) < 0)


def test_at_the_shipped_settings_every_click_stays_in_its_slot():
    """A click would leave it with a probability below 1e-14: some 1e5 of them, with 1e-9.

    Their spread is that of a detector and, 8/3 times, of a measurement. Clicks of the same two
    intervals share an error: at 10 kHz, of 10 s, 5e4 of them are independent.
    """
    scenario, link_s = bright(), 10.0
    period_ps = 1e12 / scenario.source.clock_hz
    slot, seen_ps = emitted(scenario, link_s, 72), drawn(scenario, link_s, 72)

    np.testing.assert_array_equal(seen_ps // int(period_ps), slot)
    assert slot.size > 100_000
    off = seen_ps - period_ps * (slot + 0.5)
    jitter, reading = scenario.detector.jitter_sigma_ps, scenario.satellite.sync_jitter_ps
    expected = jitter**2 + reading**2 * 8 / 3
    assert abs(off.var() / expected - 1) < Z_MAX * sqrt(3 / 50_000)
    assert abs(off.mean()) < Z_MAX * sqrt(expected / 50_000)


def test_slots_that_follow_too_slowly_lose_their_pulses_and_errors_go_to_a_half():
    """Settings of other slots say nothing: each error is a coin, and so is each equal basis.

    Light is out of its slot from some milliseconds after each pulse of synchronisation on.
    """
    armed = settings_of(load("satellite-pass"), 10.0)

    for scenario, moved in ((bright(), False), (bright(sync_hz=0.2, sync_jitter_ps=0.0), True)):
        block = Pulses(scenario, armed).block(73)
        wrong, n = (np.array(each) for each in zip(*(block.qber(b) for b in (0, 1)), strict=True))
        assert n.min() > 10_000
        if moved:
            assert np.all(wrong > 0.5 - 0.01 - Z_MAX / np.sqrt(4 * n))
            assert np.all(wrong < 0.5 + Z_MAX / np.sqrt(4 * n))
        else:
            assert np.all(wrong < 0.04)


def test_light_of_bobs_own_stays_in_its_slots_while_the_satellites_leaves_them():
    scenario = unchecked(
        bright(sync_hz=0.2, sync_jitter_ps=0.0),
        self_test=SelfTestSource(rate_hz=5e3, seen=1.0, source="test"),
        detector=replace(load("satellite-pass").detector, jitter_sigma_ps=0.0),
    )
    armed = settings_of(scenario, 1.0)
    devices = devices_of(scenario, LINK_SEED, None)

    seen_ps = devices.block(armed)(BlockDraw(BLOCK, 74, 0.0))[Side.B][0]
    shots, chance = devices.shots(armed, 74)

    period_ps = int(1e12 / armed.clock_hz)
    in_the_middle = seen_ps[seen_ps % period_ps == period_ps // 2] // period_ps
    assert chance == 1.0 and shots.size > 4_000
    assert np.isin(shots, in_the_middle).mean() > 0.99, "but for dead times"
    # the satellite's own clicks are anywhere in their slots: one in 10,000 in the middle
    assert np.isin(in_the_middle, shots).mean() > 0.99
    assert seen_ps.size - in_the_middle.size > 10_000


def test_clicks_in_the_dark_after_the_satellite_has_set_stay_where_they_are():
    satellite = replace(load("satellite-pass").satellite, sync_jitter_ps=0.0, sync_hz=0.5)
    set_ps = int(1e12 * pass_s(satellite))
    time_ps = set_ps + np.array([-(10**12), -(10**9), 10**9, 10**12])
    detector = np.array([0, 1, 2, 3], np.uint8)

    moved, same = followed((time_ps, detector), satellite, 75)

    np.testing.assert_array_equal(moved[2:], time_ps[2:])
    expected = np.rint(without_errors(satellite, 1e-12 * time_ps[:2]))
    np.testing.assert_array_equal(moved[:2] - time_ps[:2], expected)
    assert np.all(expected > 10_000)
    np.testing.assert_array_equal(same, detector)


def test_tags_stay_in_order_where_a_measurement_turns_the_slots_back():
    """Errors of a microsecond, so that slots jump from pulse to pulse of synchronisation."""
    satellite = replace(load("satellite-pass").satellite, sync_jitter_ps=1e6)
    time_ps = np.arange(0, 10**11, 10**6)
    detector = (np.arange(time_ps.size) % 4).astype(np.uint8)

    moved, which = followed((time_ps, detector), satellite, 76)
    again, _ = followed((time_ps, detector), satellite, 76)
    other, _ = followed((time_ps, detector), satellite, 77)

    assert np.all(np.diff(moved) >= 0)
    assert np.bincount(which).tolist() == np.bincount(detector).tolist()
    assert not np.array_equal(which, detector)
    np.testing.assert_array_equal(again, moved)
    assert not np.array_equal(other, moved)
