from dataclasses import replace
from math import exp, log2

import numpy as np
import pytest

from qkd_sim_link.physics.dead_time import HoldOff
from qkd_sim_link.physics.decoy_bb84 import Optics, Silence, expected_model
from qkd_sim_link.physics.fibre import fibre_transmittance
from qkd_sim_link.physics.wdm import background_photons
from qkd_sim_link.scenarios.pulses import DEFAULT, load

# GYS of Ma et al., PRA 72, 012326 (2005), table I: Y0 1.7e-6, e_detector 3.3 %, eta_Bob 4.5 %.
GYS = Optics(transmittance=0.045, misalignment=0.033, dark=0.85e-6)


def test_twenty_kilometres_of_standard_fibre_and_a_connector_lose_five_decibel():
    fibre = replace(load(DEFAULT).fibre, length_km=20.0, connector_db=1.0)

    assert fibre_transmittance(fibre) == pytest.approx(10**-0.5, rel=1e-12)


def test_gain_is_that_of_a_poisson_source_with_two_dark_counts():
    gate = GYS.equal_bases(0.48)

    assert gate.gain == pytest.approx(1 - (1 - 0.85e-6) ** 2 * exp(-0.045 * 0.48), rel=1e-12)


def test_error_gain_approaches_the_formula_that_neglects_double_clicks():
    # E Q = e0 Y0 + ed (1 - e^(-eta mu)), Ma et al. eq. (11); doubles are below eta mu / 2 of it
    gate = GYS.equal_bases(0.48)

    published = 0.5 * 1.7e-6 + 0.033 * (1 - exp(-0.045 * 0.48))

    assert gate.error_gain == pytest.approx(published, rel=0.045 * 0.48)


def test_unequal_bases_give_random_bits_at_the_same_gain():
    equal, unequal = GYS.equal_bases(0.48), GYS.unequal_bases(0.48)

    assert unequal.gain == pytest.approx(equal.gain, rel=1e-12)
    assert unequal.error_gain == pytest.approx(unequal.gain / 2, rel=1e-12)


def test_outcomes_of_a_gate_with_afterpulse_add_up():
    gate = Silence(right=0.9, wrong=0.97, afterpulse=0.2)
    right_only = gate.gain - gate.double / 2 - gate.error_gain

    # by hand: afterpulse in the right detector (0.1), in the wrong one (0.1), in none (0.8)
    assert gate.double == pytest.approx(0.1 * 0.03 + 0.1 * 0.1 + 0.8 * 0.1 * 0.03)
    assert right_only == pytest.approx(0.1 * 0.97 + 0.8 * 0.1 * 0.97)


def test_without_afterpulses_the_dead_time_is_the_non_paralysable_law():
    steady = HoldOff(n_dead=2001, afterpulse=0.0, decay_gates=100.0).steady(0.01)

    assert steady.live == pytest.approx(1 / (1 + 0.01 * 2000), rel=1e-12)
    assert steady.click == pytest.approx(0.01, rel=1e-12)
    assert steady.afterpulse == 0


def test_the_renewal_averages_agree_with_summing_the_law_of_intervals():
    p, hold_off = 0.01, HoldOff(n_dead=50, afterpulse=0.3, decay_gates=40.0)
    gate = np.arange(20_000)
    photon = p * (1 - p) ** gate
    kept = exp(-1 / 40.0)
    due = 0.3 * (1 - kept) * kept**gate
    no_photon_before, not_due_until = (1 - p) ** gate, 1 - np.cumsum(due)
    first_is_afterpulse = due * no_photon_before
    first = first_is_afterpulse + photon * not_due_until

    assert first.sum() == pytest.approx(1, abs=1e-12)
    live_gates = float(np.sum(first * (gate + 1)))
    steady = hold_off.steady(p)

    assert steady.click == pytest.approx(1 / live_gates, rel=1e-9)
    assert steady.live == pytest.approx(live_gates / (49 + live_gates), rel=1e-9)
    assert steady.afterpulse == pytest.approx(first_is_afterpulse.sum() / live_gates, rel=1e-9)


@pytest.mark.parametrize(("dead_time_us", "n_dead"), [(0.0, 1), (2.0, 2000), (0.0015, 2)])
def test_the_first_live_gate_comes_when_the_dead_time_is_over(dead_time_us, n_dead):
    detector = replace(load(DEFAULT).detector, dead_time_us=dead_time_us)

    assert HoldOff.of(detector, 1e9).n_dead == n_dead


def test_the_default_link_keeps_just_under_half_a_million_clicks_a_second():
    scenario = load(DEFAULT)
    model = expected_model(scenario)

    shares = scenario.source.probabilities
    clicks = 1e9 * sum(p * gain for p, gain in zip(shares, model.gain, strict=True))
    assert 4e5 < clicks < 5e5
    assert model.gain[0] > model.gain[1] > model.gain[2] > 0
    assert 0.01 < model.qber[0] < model.qber[1] < model.qber[2] < 0.5


def test_a_dark_fibre_with_perfect_detectors_never_clicks():
    scenario = load(DEFAULT)
    detector = replace(scenario.detector, efficiency=0.0, dark_probability_per_gate=0.0)

    model = expected_model(replace(scenario, detector=detector))

    assert model.gain == (0, 0, 0)
    assert model.qber == (0, 0, 0)


def entropy(p: float) -> float:
    return -p * log2(p) - (1 - p) * log2(1 - p)


def asymptotic_rate(length_km: float) -> float:
    """Key per pulse of BB84 with endless decoys. Source: Ma et al. 2005, eqs (1), (3) to (9)."""
    scenario = load("gys")
    optics = Optics.of(replace(scenario, fibre=replace(scenario.fibre, length_km=length_km)))
    signal, single = optics.equal_bases(0.48), optics.dark * 2 + optics.transmittance
    error = (optics.dark + optics.misalignment * optics.transmittance) / single
    leak = 1.22 * signal.gain * entropy(signal.error_gain / signal.gain)
    return (0.48 * exp(-0.48) * single * (1 - entropy(error)) - leak) / 2


def test_the_gys_link_reaches_the_published_142_kilometres_without_finite_key_effects():
    # Ma et al., PRA 72, 012326 (2005), section V: 142.05 km for 0.48 photons and f = 1.22
    assert asymptotic_rate(141.5) > 0 > asymptotic_rate(142.5)


def test_the_gys_link_has_the_published_yield_and_error_at_122_kilometres():
    model = expected_model(load("gys"))

    eta = 0.045 * 10 ** (-0.21 * 122 / 10)
    gain = 1.7e-6 + 1 - exp(-eta * 0.48)
    assert model.gain[0] == pytest.approx(gain, rel=2e-3)
    assert model.qber[0] == pytest.approx((0.5 * 1.7e-6 + 0.033 * eta * 0.48) / gain, rel=2e-3)


def test_light_of_classical_channels_counts_as_darkness_of_both_detectors():
    scenario = load("wdm-metro")
    dark_fibre = replace(scenario, wdm=None)
    added = background_photons(scenario.wdm, scenario.fibre) * 10**-0.2 * 0.2 / 2

    with_light, without = (Optics.of(each).dark for each in (scenario, dark_fibre))

    assert without == pytest.approx(1e-6, rel=1e-9)
    assert with_light == pytest.approx(1 - (1 - 1e-6) * exp(-added), rel=1e-9)
    assert with_light > 5 * without


def test_a_detector_that_sees_less_takes_its_share_of_the_gain():
    scenario = load(DEFAULT)
    quiet = replace(scenario.detector, dead_time_us=0.0, afterpulse_probability=0.0)
    half = replace(quiet, mismatch=0.5)

    alike, unlike = (expected_model(replace(scenario, detector=each)) for each in (quiet, half))

    # three quarters of the light of a faint pulse are seen; errors go with the wrong detector
    assert unlike.gain[0] == pytest.approx(0.75 * alike.gain[0], rel=0.01)
    assert unlike.qber[0] == pytest.approx(alike.qber[0], rel=0.01)
