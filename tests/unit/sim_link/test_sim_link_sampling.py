"""The event sampler and the oracle, each against the analytic law.

Every test statistic is turned into a standard normal number and must stay below 5: the false-alarm
probability is below 6e-7 for each, with fixed seeds.
"""

from dataclasses import replace
from math import erf, exp, sqrt

import numpy as np
import pytest

from qkd_sim_link.physics.dead_time import HoldOff
from qkd_sim_link.physics.decoy_bb84 import Gates, Optics, expected_model
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.full import sample_full
from qkd_sim_link.sampling.pulses import settings_at
from qkd_sim_link.scenarios.pulses import DEFAULT, Scenario, load

Z_MAX = 5.0
SAMPLERS = {"event": (sample, 40_000_000), "full": (sample_full, 10_000_000)}


def busy() -> Scenario:
    """A bright, noisy link where every effect shows within a second."""
    scenario = load(DEFAULT)
    return replace(
        scenario,
        source=replace(
            scenario.source,
            intensities=(2.0, 0.7, 0.3),
            probabilities=(0.5, 0.3, 0.2),
            p_key_basis=0.6,
        ),
        receiver=replace(scenario.receiver, insertion_loss_db=1.0, misalignment_error=0.06),
        detector=replace(
            scenario.detector,
            efficiency=0.6,
            dark_probability_per_gate=2e-3,
            dead_time_us=0.02,
            afterpulse_probability=0.3,
            afterpulse_time_us=0.02,
        ),
    )


def law_of(scenario: Scenario, n_pulses: int) -> ClickLaw:
    return ClickLaw.of(scenario, replace(scenario.source.settings(), n_pulses=n_pulses))


def chi_squared_z(seen: np.ndarray, expected: np.ndarray, degrees: int) -> float:
    """Chi-squared as a standard normal number. Source: Wilson and Hilferty, PNAS 17, 684 (1931)."""
    assert expected.min() > 10
    chi2 = float(np.sum((seen - expected) ** 2 / expected))
    return ((chi2 / degrees) ** (1 / 3) - 1 + 2 / (9 * degrees)) / sqrt(2 / (9 * degrees))


def clicked_slots(clicks: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Slots with a click, and what clicked there: 4 * basis + mask of detectors."""
    slots, inverse = np.unique(clicks[0] // 1000, return_inverse=True)
    seen = np.zeros(slots.size, np.int64)
    np.bitwise_or.at(seen, inverse, 1 << (clicks[1] & 1).astype(np.int64))
    seen[inverse] |= 4 * (clicks[1] >> 1).astype(np.int64)
    return slots, seen


def cell_probabilities(law: ClickLaw) -> np.ndarray:
    """Of a click in the only segment of the course: [Alice's setting, Bob's basis, mask - 1]."""
    course, settings = law.course, law.settings
    steady, [share] = Gates(course, settings).steady(law.hold_off)
    bases = (settings.p_key_basis, 1 - settings.p_key_basis)
    cells = np.zeros((12, 2, 3))
    for choice in range(12):
        k, basis, bit = choice >> 2, choice >> 1 & 1, choice & 1
        optics = Optics(
            transmittance=float(course.transmittance[0]),
            misalignment=float(course.misalignment[0, basis]),
            dark=float(course.dark[0, bit]),
            other_dark=float(course.dark[0, 1 - bit]),
            efficiency=(float(course.efficiency[0, bit]), float(course.efficiency[0, 1 - bit])),
        )
        for theirs in range(2):
            pulse = optics.equal_bases if theirs == basis else optics.unequal_bases
            in_right = share if bit == 0 else 1 - share
            gate = pulse(settings.intensities[k], float(steady.afterpulse[0]), in_right)
            wrong_only = gate.error_gain - gate.double / 2
            right_only = gate.gain - gate.error_gain - gate.double / 2
            only = (right_only, wrong_only) if bit == 0 else (wrong_only, right_only)
            weight = settings.probabilities[k] * bases[basis] / 2 * bases[theirs]
            cells[choice, theirs] = [weight * only[0], weight * only[1], weight * gate.double]
    return cells / cells.sum()


def mean_gain(law: ClickLaw) -> float:
    """Of a live gate of the only segment of the course."""
    return float(Gates(law.course, law.settings).optics.mean_gain(law.settings)[0])


def interval_tail(hold_off: HoldOff, p: float, j: np.ndarray) -> np.ndarray:
    """Probability that at least ``j`` live gates pass without a click."""
    due = hold_off.afterpulse
    return (1 - p) ** j * (1 - due + due * np.exp(-j / hold_off.decay_gates))


@pytest.mark.parametrize("name", SAMPLERS)
def test_clicks_fall_into_settings_bases_and_detectors_as_the_model_says(name):
    sampler, n_pulses = SAMPLERS[name]
    law = law_of(busy(), n_pulses)

    slots, seen = clicked_slots(sampler(law, 11))
    chosen = settings_at(11, slots, law.settings)

    counts = np.bincount(chosen * 6 + (seen >> 2) * 3 + (seen & 3) - 1, minlength=72)
    expected = slots.size * cell_probabilities(law).ravel()
    assert chi_squared_z(counts, expected, 71) < Z_MAX


@pytest.mark.parametrize("name", SAMPLERS)
def test_detectors_of_different_efficiency_click_as_the_model_says(name):
    sampler, n_pulses = SAMPLERS[name]
    scenario = busy()
    detector = replace(scenario.detector, mismatch=0.4)
    law = law_of(replace(scenario, detector=detector), n_pulses)

    slots, seen = clicked_slots(sampler(law, 26))
    chosen = settings_at(26, slots, law.settings)

    counts = np.bincount(chosen * 6 + (seen >> 2) * 3 + (seen & 3) - 1, minlength=72)
    assert counts.reshape(12, 2, 3)[:, :, 0].sum() > 1.5 * counts.reshape(12, 2, 3)[:, :, 1].sum()
    expected = slots.size * cell_probabilities(law).ravel()
    assert chi_squared_z(counts, expected, 71) < Z_MAX


@pytest.mark.parametrize("name", SAMPLERS)
def test_double_clicks_come_at_the_rate_of_two_independent_detectors(name):
    sampler, n_pulses = SAMPLERS[name]
    law = law_of(busy(), n_pulses)

    slots, seen = clicked_slots(sampler(law, 12))
    doubles = int(np.sum(seen & 3 == 3))

    p_double = float(cell_probabilities(law)[:, :, 2].sum())
    sigma = sqrt(slots.size * p_double * (1 - p_double))
    assert doubles > 10_000
    assert abs(doubles - slots.size * p_double) < Z_MAX * sigma


@pytest.mark.parametrize("name", SAMPLERS)
def test_intervals_follow_the_renewal_law_of_dead_time_and_afterpulses(name):
    sampler, n_pulses = SAMPLERS[name]
    law = law_of(busy(), n_pulses)

    slots, _ = clicked_slots(sampler(law, 13))
    waits = np.diff(slots) - law.hold_off.n_dead

    assert waits.min() == 0, "dead time is kept and no longer than said"
    edges = np.array([0, 1, 2, 3, 5, 8, 12, 18, 26, 40])
    tail = np.append(interval_tail(law.hold_off, mean_gain(law), edges), 0)
    seen = np.bincount(np.searchsorted(edges, waits, "right") - 1, minlength=edges.size)
    assert chi_squared_z(seen, waits.size * -np.diff(tail), edges.size - 1) < Z_MAX


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_number_of_clicks_is_the_expected_one(name):
    sampler, n_pulses = SAMPLERS[name]
    law = law_of(busy(), n_pulses)

    slots, _ = clicked_slots(sampler(law, 14))

    j = np.arange(1, 3000)
    tail = interval_tail(law.hold_off, mean_gain(law), j)
    mean = law.hold_off.n_dead + tail.sum()
    variance = np.sum((2 * j - 1) * tail) - tail.sum() ** 2
    assert n_pulses / mean == pytest.approx(law.expected_clicks(), rel=1e-6)
    # renewal theory: the count has variance n var / mean^3; one click of edge effects
    sigma = sqrt(n_pulses * variance / mean**3)
    assert abs(slots.size - n_pulses / mean) < Z_MAX * sigma + 1


@pytest.mark.parametrize("name", [DEFAULT, "direct-25km-one-decoy"])
def test_the_planner_s_model_is_what_the_link_gives(name):
    scenario = load(name)
    law = law_of(scenario, 1_000_000_000)
    model = expected_model(scenario)
    settings = law.settings

    slots, seen = clicked_slots(sample(law, 15))
    chosen = settings_at(15, slots, settings)
    equal = (chosen >> 1 & 1) == seen >> 2
    wrong = (seen & 3 == 2 - (chosen & 1)).astype(float) + 0.5 * (seen & 3 == 3)

    p_equal = settings.p_key_basis**2 + (1 - settings.p_key_basis) ** 2
    assert chosen.max() >> 2 == len(settings.intensities) - 1
    for k in range(len(settings.intensities)):
        here = equal & (chosen >> 2 == k)
        n_here = int(np.sum(here))
        expected = settings.n_pulses * settings.probabilities[k] * p_equal * model.gain[k]
        assert abs(n_here - expected) < Z_MAX * sqrt(expected)
        qber = model.qber[k]
        errors = float(np.sum(wrong[here]))
        assert abs(errors - n_here * qber) < Z_MAX * sqrt(n_here * qber * (1 - qber))


@pytest.mark.parametrize("sampler", [sample, sample_full])
def test_arrivals_scatter_normally_about_the_middle_of_their_slot(sampler):
    law = law_of(busy(), 3_000_000)
    time_ps, _ = sampler(law, 16)

    late = np.sort(time_ps % 1000 - 500)

    edges = np.arange(-2.5, 2.6, 0.5) * law.jitter_sigma_ps
    below = np.array([0.5 + erf(x / law.jitter_sigma_ps / sqrt(2)) / 2 for x in edges])
    # a time is rounded to the nearest picosecond, so half a picosecond below each edge
    seen = np.diff(np.concatenate(([0], np.searchsorted(late, edges - 0.5), [late.size])))
    shift = (
        0.5
        / law.jitter_sigma_ps
        / sqrt(2 * np.pi)
        * np.exp(-((edges / law.jitter_sigma_ps) ** 2) / 2)
    )
    expected = late.size * np.diff(np.concatenate(([0.0], below - shift, [1.0])))
    assert chi_squared_z(seen, expected, edges.size) < Z_MAX


@pytest.mark.parametrize("sampler", [sample, sample_full])
def test_clicks_are_in_time_order_and_only_of_detectors_that_exist(sampler):
    scenario = busy()
    detector = replace(scenario.detector, dead_time_us=0.0, jitter_sigma_ps=100.0)
    time_ps, fired = sampler(law_of(replace(scenario, detector=detector), 1_000_000), 17)

    assert time_ps.dtype == np.int64 and fired.dtype == np.uint8
    assert np.all(np.diff(time_ps) >= 0)
    assert set(np.unique(fired)) == {0, 1, 2, 3}


def test_no_two_clicks_of_the_default_link_are_closer_than_the_dead_time():
    law = law_of(load(DEFAULT), 200_000_000)

    slots, _ = clicked_slots(sample(law, 18))

    assert np.diff(slots).min() == 2000


def test_the_same_seed_gives_the_same_block_and_another_one_another():
    law = law_of(load(DEFAULT), 20_000_000)

    first, again, other = sample(law, 19), sample(law, 19), sample(law, 20)

    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0][:100], other[0][:100])


def test_settings_come_with_their_probabilities():
    settings = replace(load(DEFAULT).source.settings(), n_pulses=2_000_000)

    counts = np.bincount(settings_at(21, np.arange(2_000_000), settings), minlength=12)

    expected = [
        2_000_000 * p * basis / 2
        for p in settings.probabilities
        for basis in (settings.p_key_basis, 1 - settings.p_key_basis)
        for _bit in range(2)
    ]
    assert chi_squared_z(counts, np.array(expected), 11) < Z_MAX


def test_settings_of_neighbouring_pulses_are_independent():
    settings = load(DEFAULT).source.settings()
    bits = settings_at(22, np.arange(4_000_000), settings) & 1

    for lag in (1, 2, 64):
        equal = int(np.sum(bits[lag:] == bits[:-lag]))
        n = bits.size - lag
        assert abs(equal - n / 2) < Z_MAX * sqrt(n / 4)


def test_a_block_without_light_and_dark_counts_is_empty():
    scenario = load(DEFAULT)
    detector = replace(scenario.detector, efficiency=0.0, dark_probability_per_gate=0.0)

    time_ps, fired = sample(law_of(replace(scenario, detector=detector), 10**9), 23)

    assert time_ps.size == fired.size == 0


def test_a_blinding_flash_clicks_in_every_live_gate():
    law = law_of(busy(), 100_000)
    flash = replace(law, click=np.ones((1, 12, 2, 2)))

    slots, seen = clicked_slots(sample(flash, 24))

    assert np.all(np.diff(slots) == law.hold_off.n_dead) and np.all(seen & 3 == 3)


def test_the_oracle_and_the_optics_use_one_transmittance():
    optics = Optics.of(busy())

    assert optics.equal_bases(2.0).gain == pytest.approx(
        1 - (1 - 2e-3) ** 2 * exp(-2.0 * 0.6 * 10**-0.7), rel=1e-12
    )
