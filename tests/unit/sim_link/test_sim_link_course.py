"""The course of a link: its laws, what makes it, and samplers that follow it.

Every test statistic is turned into a standard normal number and must stay below 5: the false-alarm
probability is below 6e-7 for each, with fixed seeds.
"""

from dataclasses import replace
from math import exp, log1p, sqrt

import numpy as np
import pytest

from qkd_core.errors import ConfigError
from qkd_sim_link.physics.channel import fading_spread, unevenness
from qkd_sim_link.physics.course import SEGMENTS_MAX, Course, steady_course, still_course
from qkd_sim_link.physics.decoy_bb84 import choice_weights, expected_model
from qkd_sim_link.physics.free_space import mean_pointing, pointing_spread
from qkd_sim_link.physics.polarisation import mean_error
from qkd_sim_link.physics.satellite import pass_s
from qkd_sim_link.sampling.drift import STEPS, course_of
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.full import sample_full
from qkd_sim_link.sampling.pulses import settings_at
from qkd_sim_link.scenarios.pulses import DEFAULT, Scenario, load

Z_MAX = 5.0
SAMPLERS = {"event": (sample, 16_000_000), "full": (sample_full, 8_000_000)}


def settings_of(scenario: Scenario, n_pulses: int):
    return replace(scenario.source.settings(), n_pulses=n_pulses)


def quick() -> Scenario:
    """Bright light, no dead time, no afterpulses: every gate is independent."""
    scenario = load(DEFAULT)
    return replace(
        scenario,
        source=replace(
            scenario.source,
            intensities=(0.9, 0.4, 0.2),
            probabilities=(0.5, 0.3, 0.2),
            p_key_basis=0.6,
        ),
        detector=replace(scenario.detector, dead_time_us=0.0, afterpulse_probability=0.0),
    )


def eventful(n_pulses: int) -> Course:
    """Five segments, the last one short: light, bases, darkness and both detectors change."""
    course = still_course(quick(), settings_of(quick(), n_pulses), (n_pulses * 2) // 9)
    assert course.n_segments == 5
    return course.with_(
        transmittance=np.array([1.0, 0.2, 3.0, 1.0, 1.0]),
        misalignment=np.array([[0, 0], [0.1, 0], [0, 0.3], [0.02, 0.9], [0.1, 0.1]]),
        dark=np.array([[100, 100], [1, 1], [500, 2000], [0, 1], [1, 1]]),
        efficiency=np.array([[1, 1], [1, 0.7], [0.3, 1], [0, 1], [0.5, 0.5]]),
    )


def expected_cells(course: Course, settings) -> np.ndarray:
    """float64[segment, choice, Bob's basis, pattern], without dead time, in plain steps."""
    cells = np.zeros((course.n_segments, 12, 2, 4))
    weights = choice_weights(settings)
    for segment in range(course.n_segments):
        for choice in range(12):
            mu, basis, bit = settings.intensities[choice >> 2], choice >> 1 & 1, choice & 1
            for theirs in range(2):
                to_other = course.misalignment[segment, basis] if theirs == basis else 0.5
                quiet = [
                    (1 - course.dark[segment, d])
                    * exp(
                        -mu
                        * course.transmittance[segment]
                        * course.efficiency[segment, d]
                        * (to_other if d != bit else 1 - to_other)
                    )
                    for d in range(2)
                ]
                both = (1 - quiet[0]) * (1 - quiet[1])
                cells[segment, choice, theirs] = weights[choice, theirs] * np.array(
                    [
                        quiet[0] * quiet[1],
                        (1 - quiet[0]) * quiet[1],
                        quiet[0] * (1 - quiet[1]),
                        both,
                    ]
                )
    return cells * course.gates[:, None, None, None]


@pytest.mark.parametrize("name", SAMPLERS)
def test_clicks_follow_the_course_segment_by_segment(name):
    sampler, n_pulses = SAMPLERS[name]
    settings, course = settings_of(quick(), n_pulses), eventful(n_pulses)

    time_ps, detector = sampler(ClickLaw.of(quick(), settings, course), 31)
    slots, inverse = np.unique(time_ps // 1000, return_inverse=True)
    mask = np.zeros(slots.size, np.int64)
    np.bitwise_or.at(mask, inverse, 1 << (detector & 1).astype(np.int64))
    theirs = np.zeros(slots.size, np.int64)
    theirs[inverse] = detector >> 1
    place = (slots // course.n_gates * 12 + settings_at(31, slots, settings)) * 2 + theirs
    seen = np.bincount(place * 4 + mask, minlength=5 * 12 * 2 * 4).reshape(-1, 4)[:, 1:]

    # counts of independent gates are binomial with small probabilities: variance below the mean
    expected = expected_cells(course, settings).reshape(-1, 4)[:, 1:]
    assert np.all(seen[expected == 0] == 0)
    often = expected > 10
    assert often.sum() > 200
    chi2, degrees = np.sum((seen - expected)[often] ** 2 / expected[often]), often.sum()
    assert ((chi2 / degrees) ** (1 / 3) - 1 + 2 / (9 * degrees)) / sqrt(2 / (9 * degrees)) < Z_MAX


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_latched_detector_is_silent_while_it_lasts(name):
    sampler, _ = SAMPLERS[name]
    settings = settings_of(load(DEFAULT), 2_000_000)
    course = steady_course(load(DEFAULT), settings).refined(200_000)
    stuck = np.ones((10, 2))
    stuck[3:6, 1] = 0
    law = ClickLaw.of(load(DEFAULT), settings, course.with_(efficiency=stuck, dark=stuck))
    law = replace(law, hold_off=replace(law.hold_off, n_dead=1, afterpulse=0.0))

    time_ps, detector = sampler(law, 32)
    segment = time_ps // 1000 // 200_000

    assert np.all((detector & 1)[(segment >= 3) & (segment < 6)] == 0)
    per_segment = np.bincount(segment[detector & 1 == 1], minlength=10)
    assert np.all(per_segment[[0, 1, 2, 6, 7, 8, 9]] > 50)


def test_a_flash_in_one_segment_does_not_slow_the_others_down():
    settings = settings_of(load(DEFAULT), 1_000_000_000)
    course = steady_course(load(DEFAULT), settings).refined(1_000_000)
    flash = np.ones((1000, 1))
    flash[500] = 1e8  # of a dark probability of 1e-6
    law = ClickLaw.of(load(DEFAULT), settings, course.with_(dark=flash))

    time_ps, _ = sample(law, 33)

    lit = (time_ps >= 500_000_000_000) & (time_ps < 501_000_000_000)
    assert np.sum(lit) == pytest.approx(2 * 1_000_000 / 2000, abs=4), "both detectors, all the time"
    # one click in all live gates, or in one of 13: visited gates are candidates
    assert np.sum(law.p_max > 0.5) == 1 and law.p_max[0] < 0.02


def test_changes_multiply_commute_and_stay_probabilities():
    course = steady_course(quick(), settings_of(quick(), 1000)).refined(100)
    ramp, step = np.linspace(1, 0.1, 10), np.where(np.arange(10) < 5, 1.0, 0.5)

    one = course.with_(transmittance=ramp, dark=3.0).with_(transmittance=step, misalignment=0.2)
    other = course.with_(transmittance=step, misalignment=0.2).with_(transmittance=ramp, dark=3.0)

    for name in ("transmittance", "misalignment", "dark", "efficiency"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12)
    np.testing.assert_allclose(one.transmittance, course.transmittance * ramp * step)
    np.testing.assert_allclose(one.misalignment, 0.01 * 0.8 + 0.2 * 0.99)
    np.testing.assert_allclose(one.dark, 1 - (1 - 1e-6) ** 3, rtol=1e-9)
    assert np.all(course.with_(dark=1e12).dark <= 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"transmittance": 1e3}, "transmittance of a course: every value from 0 to 1"),
        ({"efficiency": -0.1}, "efficiency of a course: every value"),
        ({"misalignment": np.nan}, "misalignment of a course: every value"),
        ({"transmittance": np.ones(3)}, "3 segments of 1000 gates for 1000 pulses"),
        (
            {"misalignment": np.zeros((3, 2))},
            r"misalignment of a course: shape \(3, 2\), not \(1, 2\)",
        ),
    ],
)
def test_a_change_beyond_a_probability_is_refused(change, told):
    course = steady_course(quick(), settings_of(quick(), 1000))

    with pytest.raises(ConfigError, match=told):
        course.with_(**change)


def test_too_many_segments_and_too_few_are_refused():
    course = steady_course(quick(), settings_of(quick(), 10_000_000))

    with pytest.raises(ConfigError, match=f"at most {SEGMENTS_MAX}"):
        course.refined(100)
    with pytest.raises(ConfigError, match="1 segments of 10 gates for 10000000 pulses"):
        replace(course, n_gates=10)


def test_the_gates_of_the_segments_add_up_to_the_block():
    course = steady_course(quick(), settings_of(quick(), 1000)).refined(300)

    assert course.gates.tolist() == [300, 300, 300, 100]
    assert course.middles_s(1e9)[:2] == pytest.approx([150e-9, 450e-9])


def test_a_satellite_rises_culminates_and_sets():
    scenario = load("satellite-pass")
    settings = scenario.source.settings()
    course = steady_course(scenario, settings)
    duration = pass_s(scenario.satellite)
    at = course.middles_s(settings.clock_hz)

    light = course.transmittance
    assert abs(at[np.argmax(light)] - duration / 2) < 1
    assert light.max() > 5 * light[0] > 0
    assert np.all(light[at > duration + 1] == 0)
    up = light[at < duration / 2]
    assert np.all(np.diff(up) > 0) and np.all(up[1:] / up[:-1] < 1.02)


def test_fading_has_the_mean_and_the_memory_that_the_scenario_says():
    scenario = load("satellite-pass")
    free_space = replace(scenario.free_space, distance_km=800.0, elevation_deg=60.0)
    fixed = replace(scenario, satellite=None, free_space=free_space)
    settings = settings_of(fixed, 9_000_000_000)
    still = still_course(fixed, settings, settings.n_pulses).transmittance[0]

    courses = [course_of(fixed, settings, 1000.0 * i, 3) for i in range(4)]
    factors = np.array([course.transmittance / still for course in courses])

    assert courses[0].n_gates == 1_000_000  # half of 20 ms at 100 MHz
    [spread] = pointing_spread(free_space, np.array([800.0]))
    mean = mean_pointing(spread)
    # each number repeats itself over some 2 coherence times: 36,000 / 4 independent ones
    sigma = factors.std() / sqrt(factors.size / 4)
    assert abs(factors.mean() - mean) < Z_MAX * sigma < 0.03
    # of the logarithm, squares of the pointing have variance 16 s^4 and forget twice as fast
    squares, light = 16 * spread**4, log1p(free_space.scintillation)
    log = np.log(factors)
    for lag in (1, 3, 40):
        kept = exp(-lag / 2)
        expected = (squares * kept**2 + light * kept) / (squares + light)
        found = np.mean([np.corrcoef(each[:-lag], each[lag:])[0, 1] for each in log])
        assert abs(found - expected) < Z_MAX / sqrt(factors.size / 4)


def test_the_spread_that_a_plan_leaves_room_for_is_that_of_whole_passes():
    """Of 60 passes: their variance is off by 4.5 of its deviations with less than 1e-5. The bound
    is at most sqrt(2) above, since squares of the pointing forget twice as fast."""
    scenario = load("satellite-pass")
    settings = scenario.source.settings()
    spread = fading_spread(scenario, settings)
    assert expected_model(scenario).spread == spread

    light = [course_of(scenario, settings, 400.0 * i, 6).transmittance.mean() for i in range(60)]

    found = np.std(light) / np.mean(light)
    off = sqrt(1 + 4.5 * sqrt(2 / 59))
    assert found < spread * off
    assert found > spread / sqrt(2) / off
    assert fading_spread(load(DEFAULT), load(DEFAULT).source.settings()) == 0
    squares = [
        np.mean(course_of(scenario, settings, 400.0 * i, 6).transmittance ** 2) for i in range(20)
    ]
    found = np.mean(squares) / np.mean(light[:20]) ** 2
    assert found == pytest.approx(unevenness(scenario, settings), rel=0.02)
    assert unevenness(load(DEFAULT), load(DEFAULT).source.settings()) == 1


def test_the_polarisation_drifts_on_from_block_to_block_until_it_is_realigned():
    scenario = load("wdm-metro")
    settings = settings_of(scenario, 1_000_000_000)
    drift = scenario.polarisation
    assert drift.realign_s == 10.0

    blocks = [course_of(scenario, settings, float(s), 4) for s in range(20)]
    again = course_of(scenario, settings, 7.0, 4)
    other = course_of(scenario, settings, 7.0, 5)

    np.testing.assert_array_equal(again.misalignment, blocks[7].misalignment)
    assert not np.array_equal(other.misalignment, blocks[7].misalignment)
    own = scenario.receiver.misalignment_error
    path = np.concatenate([block.misalignment for block in blocks])
    angle = 2 * np.arcsin(np.sqrt((path - own) / (1 - 2 * own)))
    per_step = drift.walk_rad_per_sqrt_s * sqrt(drift.realign_s / STEPS)
    assert np.all(np.abs(np.diff(np.abs(angle[: len(angle) // 2]), axis=0)) < 6 * per_step)
    assert np.all(angle[len(angle) // 2] < 6 * per_step), "realigned after 10 s"


def test_the_mean_error_of_many_windows_is_the_steady_one():
    scenario = load("wdm-metro")
    settings = settings_of(scenario, 1_000_000_000)

    means = np.array(
        [course_of(scenario, settings, 10.0 * i + j, 6).misalignment.mean()
         for i in range(400) for j in (0.0, 3.0, 6.0, 9.0)]
    ).reshape(400, 4)  # fmt: skip

    drifted = mean_error(scenario.polarisation)
    assert drifted == pytest.approx(0.0005, rel=0.01)
    # four seconds out of ten in each window, spread evenly, stand for all of it within 10 %
    sigma = means.mean(axis=1).std() / 20
    [expected] = steady_course(scenario, settings).misalignment[:, 0]
    assert abs(means.mean() - expected) < Z_MAX * sigma + 0.1 * drifted


def test_a_constant_link_has_one_segment():
    scenario = load(DEFAULT)
    settings = scenario.source.settings()

    course = course_of(scenario, settings, 12.0, 7)

    assert course.n_segments == 1
    np.testing.assert_array_equal(
        course.transmittance, steady_course(scenario, settings).transmittance
    )
