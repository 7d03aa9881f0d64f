"""Pairs that come in pulses: their law against published formulas, and samples against the law.

Statistics are standard normal numbers below 5, or chi-squared with a probability above 1e-6: the
false-alarm probability is below 1e-6 for each, with fixed seeds.
"""

from dataclasses import replace
from math import exp, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, nbinom

from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side
from qkd_sim_link.physics.pairs import End
from qkd_sim_link.physics.pulsed_pairs import PulseLaw, law_of, pulses_within
from qkd_sim_link.sampling.emission import BY_A, BY_B, emitted
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.scenarios.pairs import PumpPulses

Z_MAX = 5.0
RARE = 1e-6
SHIPPED = load_link("entangled-25km-pulsed")
chances = st.floats(0.001, 0.999)


def pumped(pair_rate_hz, **changed):
    fixed = {"rate_hz": 1e8, "modes": 1.0, "width_sigma_ps": 0.0}
    pulses = PumpPulses(**(fixed | changed), source="this test")
    return replace(
        SHIPPED, pulses=pulses, source=replace(SHIPPED.source, pair_rate_hz=pair_rate_hz)
    )


def drawn(scenario, etas, seconds, seed=3):
    ends = tuple(End(transmittance=eta, p_key=0.5, dark_rate_hz=0.0) for eta in etas)
    return emitted(scenario, ends, (0.0, 1e12 * seconds), np.random.default_rng(seed))


@settings(deadline=None)
@given(st.floats(1e-4, 2), chances, chances, st.floats(0, 0.5))
def test_one_mode_is_the_source_of_ma_fung_and_lo(lam, eta_a, eta_b, error):
    """Their gain and error rate without dark counts; lambda is half of the mean number of pairs."""
    law, etas = PulseLaw(2 * lam, 1.0), (eta_a, eta_b)
    common = 1 + lam * (eta_a + eta_b - eta_a * eta_b)
    gain = 1 - (1 + eta_a * lam) ** -2 - (1 + eta_b * lam) ** -2 + common**-2
    excess = eta_a * eta_b * lam * (1 + lam) / ((1 + eta_a * lam) * (1 + eta_b * lam) * common)

    n, wrong = law.in_basis(etas, (1.0, 1.0), 0.0)

    assert law.both(etas) == pytest.approx(gain, abs=1e-14)
    assert n == pytest.approx(gain, abs=1e-14)
    assert wrong == pytest.approx((gain - 2 * excess) / 2, abs=1e-14)
    _, with_errors = law.in_basis(etas, (1.0, 1.0), error)
    if lam * max(etas) < 1e-3:  # errors of single photons are what theirs are, to first order
        theirs = gain / 2 - (1 - 2 * error) * excess
        assert with_errors == pytest.approx(theirs, rel=0.01, abs=1e-12)


@settings(deadline=None)
@given(st.floats(1e-4, 2), chances, chances)
def test_many_modes_are_independent_pairs(mean, eta_a, eta_b):
    gain = 1 - exp(-mean * eta_a) - exp(-mean * eta_b)
    gain += exp(-mean * (eta_a + eta_b - eta_a * eta_b))

    assert PulseLaw(mean, 1e9).both((eta_a, eta_b)) == pytest.approx(gain, rel=1e-6, abs=1e-12)


@settings(deadline=None)
@given(st.floats(1e-4, 2), st.floats(1, 50), chances, st.floats(0, 0.5))
def test_bases_share_the_events_and_errors_are_at_most_half(mean, modes, share, error):
    law, etas = PulseLaw(mean, modes), (0.3, 0.6)
    key, key_wrong = law.in_basis(etas, (share, share), error)
    test, test_wrong = law.in_basis(etas, (1 - share, 1 - share), error)
    one, _ = law.in_basis(etas, (share, 1 - share), error)
    other, _ = law.in_basis(etas, (1 - share, share), error)

    assert key + test + one + other == pytest.approx(law.both(etas), abs=1e-12)
    for n, wrong in ((key, key_wrong), (test, test_wrong)):
        assert -1e-12 <= wrong <= n / 2 + 1e-12


@pytest.mark.parametrize("modes", [1.0, 2.5, 40.0])
def test_pairs_of_a_pulse_are_as_many_and_as_alike_as_the_modes_say(modes):
    scenario, etas, seconds = pumped(4e7, modes=modes), (0.9, 0.5), 0.02
    light = drawn(scenario, etas, seconds)
    n_pulses, c = int(seconds * 1e8), 0.95

    pulse = np.floor(light.time_ps / 1e4).astype(np.int64)
    many = np.bincount(np.bincount(pulse, minlength=n_pulses), minlength=7)
    ratio = 2 * modes / (2 * modes + 0.4 * c)
    expected = n_pulses * nbinom.pmf(np.arange(6), 2 * modes, ratio)
    observed = np.append(many[:6], many[6:].sum())
    assert chisquare(observed, np.append(expected, n_pulses - expected.sum())).pvalue > RARE
    place = np.arange(pulse.size - 1)
    two = place[(pulse[1:] == pulse[:-1]) & (np.bincount(pulse)[pulse[:-1]] == 2)]
    for basis in (0, 1):
        bit = light.outcomes >> basis & 1
        alike, chance = (bit[two] == bit[two + 1]).sum(), (modes + 1) / (2 * modes + 1)
        assert abs(alike - two.size * chance) / sqrt(two.size * chance * (1 - chance)) < Z_MAX
        assert abs(bit.sum() - pulse.size / 2) / (sqrt(pulse.size) / 2) < 2 * Z_MAX  # they bunch


@pytest.mark.parametrize("modes", [1.0, 3.0, 1e6])
def test_coincidences_and_errors_of_threshold_detectors_are_those_of_the_law(modes):
    """All photons in the key basis; a double click is a random bit."""
    scenario, etas, seconds = pumped(3e7, modes=modes), (0.4, 0.6), 0.03
    light, n_pulses = drawn(scenario, etas, seconds), int(0.03 * 1e8)
    law = law_of(scenario.pulses, 3e7)
    pulse = np.floor(light.time_ps / 1e4).astype(np.int64)
    clicks = {}
    for side, flag in ((Side.A, BY_A), (Side.B, BY_B)):
        here = light.seen & flag > 0
        clicks[side] = [
            np.bincount(pulse[here & (light.outcomes & 1 == bit)], minlength=n_pulses) > 0
            for bit in (0, 1)
        ]
    (a_0, a_1), (b_0, b_1) = clicks[Side.A], clicks[Side.B]
    both = (a_0 | a_1) & (b_0 | b_1)
    sure = both & (a_0 ^ a_1) & (b_0 ^ b_1)
    wrong = float((sure & (a_0 != b_0)).sum() + (both & ~sure).sum() / 2)

    gain, errors = law.in_basis(etas, (1.0, 1.0), 0.0)

    for seen, mean in ((both.sum(), gain * n_pulses), (wrong, errors * n_pulses)):
        assert abs(seen - mean) / sqrt(mean) < Z_MAX


def test_pulses_come_a_period_apart_and_run_through_the_record():
    light = drawn(pumped(5e6, width_sigma_ps=0.0), (0.5, 0.5), 0.01)

    phase = np.mod(light.time_ps, 1e4)

    assert np.ptp(phase) < 1e-3
    assert 0 <= light.time_ps.min() < 1e8
    assert 1e10 - 1e8 < light.time_ps.max() <= 1e10


def test_a_photon_is_seen_as_often_as_the_ends_transmit():
    light, etas = drawn(pumped(2e7, modes=2.0), (0.2, 0.7), 0.05), (0.2, 0.7)
    n_pairs = 2e7 * 0.05

    for flags, (see_a, see_b) in zip((3, 1, 2), ((1, 1), (1, 0), (0, 1)), strict=True):
        share = prod_of(etas, (see_a, see_b))
        seen = int((light.seen == flags).sum())
        spread = sqrt(n_pairs * share * (1 + share * 0.2 / 4))  # a negative binomial's
        assert abs(seen - n_pairs * share) / spread < Z_MAX


def prod_of(etas, seen):
    return float(np.prod([eta if yes else 1 - eta for eta, yes in zip(etas, seen, strict=True)]))


def test_nothing_comes_of_a_dark_source():
    assert drawn(pumped(0.0), (0.5, 0.5), 0.01).time_ps.size == 0
    assert drawn(pumped(1e6), (0.0, 0.0), 0.01).time_ps.size == 0


@settings(deadline=None)
@given(st.floats(0, 1e6), st.floats(1e6, 1e10))
def test_earlier_pulses_within_a_span_are_counted(span_ps, rate_hz):
    pulses = PumpPulses(rate_hz=rate_hz, modes=1.0, width_sigma_ps=0.0, source="this test")

    assert pulses_within(span_ps, pulses, 0.0) == pytest.approx(span_ps // pulses.period_ps, abs=1)
    assert 0 <= pulses_within(span_ps, pulses, 30.0)


def test_more_pairs_in_a_pulse_than_can_be_meant_are_refused_and_fewer_are_all_drawn():
    with pytest.raises(ConfigError, match=r"pair_rate_hz 1.01e\+10: at most 100 pairs in each of"):
        pumped(1.01e10)
    for modes in (1.0, 1e6):
        light = drawn(pumped(1e10, modes=modes), (0.9, 0.9), 1e-4)
        mean, n_pulses = 100 * 0.99, 1e4
        spread = sqrt(n_pulses * mean * (1 + mean / (2 * modes)))
        assert abs(light.time_ps.size - n_pulses * mean) < Z_MAX * spread


def test_a_window_that_a_pulse_does_not_fit_into_is_refused():
    with pytest.raises(ConfigError, match=r"window_ps 600: at least 15\d\d, .* width_sigma_ps 150"):
        replace(SHIPPED, pulses=replace(SHIPPED.pulses, width_sigma_ps=150.0))


def test_a_window_that_takes_in_another_pulse_is_refused():
    with pytest.raises(ConfigError, match=r"window_ps 600: at most 4\d\d, .* period of 800"):
        replace(SHIPPED, pulses=replace(SHIPPED.pulses, rate_hz=1.25e9))
