"""Block totals against the analytic law, the event sampler, and the truth about photons.

Every test statistic is turned into a standard normal number and must stay below 5: the false-alarm
probability is below 6e-7 for each, with fixed seeds.
"""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from qkd_core.proofs.decoy2_exact import bounds
from qkd_core.proofs.premises import Premises
from qkd_core.types.plans import Interval
from qkd_sim_link.physics.course import steady_course
from qkd_sim_link.physics.decoy_bb84 import Gates, expected_model
from qkd_sim_link.physics.detectors import tired
from qkd_sim_link.sampling.counts import block_totals, cell_law
from qkd_sim_link.sampling.drift import course_of
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.full import sample_full
from qkd_sim_link.sampling.pulses import settings_at
from qkd_sim_link.scenarios.pulses import DEFAULT, Scenario, load

Z_MAX = 5.0
CHANNELS = ("direct-10km", "direct-50km", "direct-100km", "gys", "wdm-metro", "satellite-pass")


def noisy(mismatch: float = 0.5, afterpulse: float = 0.2) -> Scenario:
    """Bright light on detectors that differ, with dead time and afterpulses."""
    scenario = load(DEFAULT)
    return replace(
        scenario,
        source=replace(
            scenario.source,
            intensities=(1.2, 0.5, 0.2),
            probabilities=(0.5, 0.3, 0.2),
            p_key_basis=0.6,
        ),
        receiver=replace(scenario.receiver, misalignment_error=0.05),
        detector=replace(
            scenario.detector,
            efficiency=0.6,
            dark_probability_per_gate=1e-3,
            dead_time_us=0.01,
            afterpulse_probability=afterpulse,
            afterpulse_time_us=0.02,
            mismatch=mismatch,
        ),
    )


def changing(scenario: Scenario, n_pulses: int) -> ClickLaw:
    """Eight segments of other light, errors and detectors."""
    settings = replace(scenario.source.settings(), n_pulses=n_pulses)
    course = steady_course(scenario, settings).refined(n_pulses // 8)
    rng = np.random.default_rng(5)
    return ClickLaw.of(
        scenario,
        settings,
        course.with_(
            transmittance=rng.uniform(0.2, 1.0, 8),
            misalignment=rng.uniform(0, 0.1, (8, 2)),
            efficiency=rng.uniform(0.5, 1.0, (8, 2)),
        ),
    )


def patterns_of(clicks: tuple[np.ndarray, np.ndarray], law: ClickLaw, seed: int) -> np.ndarray:
    """int64[12, 2, 3], as `Totals.clicks`."""
    slots, inverse = np.unique(clicks[0] // 1000, return_inverse=True)
    mask = np.zeros(slots.size, np.int64)
    np.bitwise_or.at(mask, inverse, 1 << (clicks[1] & 1).astype(np.int64))
    theirs = np.zeros(slots.size, np.int64)
    theirs[inverse] = clicks[1] >> 1
    cell = (settings_at(seed, slots, law.settings) * 2 + theirs) * 3 + mask - 1
    return np.bincount(cell, minlength=72).reshape(12, 2, 3)


def normal(chi2: float, degrees: int) -> float:
    """Chi-squared as a standard normal number. Source: Wilson and Hilferty, PNAS 17, 684 (1931)."""
    return ((chi2 / degrees) ** (1 / 3) - 1 + 2 / (9 * degrees)) / sqrt(2 / (9 * degrees))


def two_sample_z(one: np.ndarray, other: np.ndarray) -> float:
    """Whether two samples share one law, given their sizes."""
    often = (one + other) > 20
    assert often.sum() > 50
    a, b = one[often], other[often]
    share = a.sum() / (a.sum() + b.sum())
    chi2 = np.sum((a - share * (a + b)) ** 2 / (share * (1 - share) * (a + b)))
    return normal(float(chi2), int(often.sum()) - 1)


@pytest.mark.parametrize("afterpulse", [0.0, 0.2])
def test_three_samplers_share_one_law_under_a_changing_course(afterpulse):
    law = changing(noisy(afterpulse=afterpulse), 8_000_000)

    by_events = patterns_of(sample(law, 41), law, 41)
    pulse_by_pulse = patterns_of(sample_full(law, 42), law, 42)
    totals = block_totals(law, 43).clicks

    assert two_sample_z(by_events, totals) < Z_MAX
    assert two_sample_z(pulse_by_pulse, totals) < Z_MAX
    assert two_sample_z(by_events, pulse_by_pulse) < Z_MAX
    expected = law.expected_clicks()
    for each in (by_events, pulse_by_pulse, totals):  # at most one click in a mean count's gap
        assert abs(each.sum() - expected) < Z_MAX * sqrt(expected) * 1.5 + 8


@pytest.mark.parametrize("afterpulse", [0.0, 0.3])
def test_the_number_of_clicks_has_the_mean_and_variance_of_a_renewal_process(afterpulse):
    scenario = noisy(afterpulse=afterpulse)
    settings = replace(scenario.source.settings(), n_pulses=20_000)
    law = ClickLaw.of(scenario, settings)
    steady, _ = Gates(law.course, settings).steady(law.hold_off)

    events = np.array([np.unique(sample(law, i)[0] // 1000).size for i in range(500)])
    totals = np.array([block_totals(law, i).clicks.sum() for i in range(500)])

    mean = settings.n_pulses / steady.mean[0]
    variance = settings.n_pulses * steady.variance[0] / steady.mean[0] ** 3
    for counts in (events, totals):
        # a block that begins with live detectors may have one click more
        assert abs(counts.mean() - mean) < Z_MAX * sqrt(variance / 500) + 1
        # of a variance, normal counts: relative standard error sqrt(2 / n); 1 click of edges
        assert abs(counts.var() / variance - 1) < Z_MAX * sqrt(2 / 500) + 2 / sqrt(variance)


def test_without_dead_time_and_afterpulses_the_number_is_binomial():
    scenario = noisy(afterpulse=0.0)
    detector = replace(scenario.detector, dead_time_us=0.0)
    law = changing(replace(scenario, detector=detector), 4000)
    p = law.expected_clicks() / 4000

    totals = np.array([block_totals(law, i).clicks.sum() for i in range(400)])

    gates = Gates(law.course, law.settings)
    each = gates.optics.mean_gain(law.settings)
    variance = float(np.sum(law.course.gates * each * (1 - each)))
    assert abs(totals.mean() - 4000 * p) < Z_MAX * sqrt(variance / 400)
    assert abs(totals.var() / variance - 1) < Z_MAX * sqrt(2 / 400)


def test_cells_add_up_to_one_click_and_photons_to_what_the_detectors_see():
    law = changing(noisy(), 8000)
    steady, share = Gates(law.course, law.settings).steady(law.hold_off)

    cells = cell_law(law, slice(None), steady.afterpulse, share)

    np.testing.assert_allclose(cells.sum(axis=(1, 2, 3, 4)), 1, rtol=1e-12)
    assert cells.min() >= 0
    # clicks of empty pulses do not care for Alice's bit
    empty = cells[:, 0].reshape(8, 3, 2, 2, 2, 3)
    np.testing.assert_allclose(empty[:, :, :, 0], empty[:, :, :, 1], rtol=1e-12)


@pytest.mark.parametrize("name", CHANNELS)
def test_what_the_planner_expects_is_the_mean_of_many_blocks(name):
    scenario = load(name)
    settings, n_blocks = scenario.source.settings(), 3 if scenario.satellite else 40
    model = expected_model(scenario)
    rng = np.random.default_rng(9)

    blocks = []
    for i in range(n_blocks):
        # far apart in time, in all phases of a drift
        begun_s = i * 1001.0 + 10.0 * (i + 0.5) / n_blocks
        law = ClickLaw.of(scenario, settings, course_of(scenario, settings, begun_s, 8))
        blocks.append(block_totals(law, i).sifted(rng))

    p_equal = settings.p_key_basis**2 + (1 - settings.p_key_basis) ** 2
    counts = np.array([block.key_counts + block.test_counts for block in blocks], float)
    errors = np.array([block.key_errors + block.test_errors for block in blocks], float)
    for k in range(3):
        expected = settings.n_pulses * settings.probabilities[k] * p_equal * model.gain[k]
        sigma = max(counts[:, k].std(), sqrt(expected)) / sqrt(n_blocks)
        # besides chance: the mean of a fading link's dead time is not that of its mean light
        assert abs(counts[:, k].mean() - expected) < Z_MAX * sigma + 1e-3 * expected
        wrong = expected * model.qber[k]
        sigma = max(errors[:, k].std(), sqrt(wrong)) / sqrt(n_blocks)
        assert abs(errors[:, k].mean() - wrong) < Z_MAX * sigma + 2e-3 * wrong


def test_the_decoy_bounds_stay_below_the_true_single_photon_counts_in_a_hundred_blocks():
    # each bound may fail with 21 parts of eps_sec 1e-9 in all: 100 blocks fail with 1e-7
    scenario = load("wdm-metro")
    settings, rng = scenario.source.settings(), np.random.default_rng(10)
    seen = []
    for seed in range(100):
        law = ClickLaw.of(scenario, settings, course_of(scenario, settings, 1.0 * seed, 11))
        totals = block_totals(law, seed)
        found = bounds(premises(settings, totals.sifted(rng)))
        single = totals.by_photons[1].reshape(3, 2, 2, 2, 3).sum(axis=(0, 2, 4))
        key, test = single[0, 0], single[1, 1]
        assert found.s_key_1 <= key and found.s_test_1 <= test
        seen.append(found.s_key_1 / key)

    assert 0.7 < min(seen) and max(seen) < 1


@pytest.mark.parametrize("name", (*CHANNELS, "direct-150km", DEFAULT))
def test_a_block_of_every_shipped_channel_gives_a_key(name):
    scenario = load(name)
    settings = scenario.source.settings()
    sifted = block_totals(ClickLaw.of(scenario, settings), 12).sifted(np.random.default_rng(13))
    n, wrong = sifted.key_counts.sum(), sifted.key_errors.sum()
    entropy = -sum(p * np.log2(p) for p in (wrong / n, 1 - wrong / n))

    # error correction that tells a quarter more than Shannon's limit
    found = bounds(replace(premises(settings, sifted), leak_ec=float(1.25 * n * entropy)))

    assert found.n_secret > 10_000


def premises(settings, sifted) -> Premises:
    def exactly(counts: np.ndarray) -> tuple[Interval, ...]:
        return tuple(Interval(low=int(n), high=int(n)) for n in counts)

    return Premises(
        intensities=settings.intensities,
        probabilities=settings.probabilities,
        key_counts=exactly(sifted.key_counts),
        test_counts=exactly(sifted.test_counts),
        test_errors=exactly(sifted.test_errors),
        leak_ec=0.0,
        eps_sec=1e-9,
        eps_cor=1e-15,
    )


def test_a_dark_link_gives_empty_totals():
    scenario = load(DEFAULT)
    detector = replace(scenario.detector, efficiency=0.0, dark_probability_per_gate=0.0)
    scenario = replace(scenario, detector=detector)

    totals = block_totals(ClickLaw.of(scenario, scenario.source.settings()), 1)

    assert totals.by_photons.shape == (3, 12, 2, 3) and totals.clicks.sum() == 0


def test_totals_repeat_with_their_seed():
    law = changing(noisy(), 1_000_000)

    one, again, other = (block_totals(law, seed).by_photons for seed in (1, 1, 2))

    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_detectors_that_recover_slowly_click_less_often_by_the_published_law():
    scenario = noisy(mismatch=1.0, afterpulse=0.0)
    fresh = replace(scenario.detector, recovery_us=0.0)
    slow = replace(scenario.detector, recovery_us=0.05)
    settings = scenario.source.settings()

    before, after = (
        ClickLaw.of(replace(scenario, detector=detector), settings) for detector in (fresh, slow)
    )

    clicks = Gates(before.course, settings).optics.mean_gain(settings)
    expected = tired(clicks / 2 * 50)
    np.testing.assert_allclose(after.course.efficiency[0], expected[0], rtol=1e-12)
    assert 0.2 < expected[0] < 0.9
