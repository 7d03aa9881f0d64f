"""g2 of pulses and of steady light: the truth is within its limits, or the light is refused.

False alarms: what is compared within 5 standard deviations fails by chance with less than 6e-7.
"""

import numpy as np
import pytest

from qkd_core.errors import LinkError
from qkd_sim_link.tags.g2 import EPS, continuous_g2, pulse_period, pulsed_g2
from qkd_sim_link.tags.histogram import Lags, lags

PERIOD_PS, DELAY_PS = 3127.8, 23_900


def emitter(g2, *, n_pulses=4_000_000, p=0.03, dark_hz=0.0, seed=1):
    """Two channels: at each pulse b clicks with g2 times the probability where a does."""
    rng = np.random.default_rng(seed)
    in_a = rng.random(n_pulses) < p
    in_b = rng.random(n_pulses) < np.where(in_a, g2 * p, p)
    channels = []
    for clicks, delay in ((in_a, 0), (in_b, DELAY_PS)):
        pulse = np.flatnonzero(clicks)
        lit = pulse * PERIOD_PS + delay + rng.normal(0, 120, pulse.size)
        dark = rng.uniform(0, n_pulses * PERIOD_PS, rng.poisson(dark_hz * n_pulses * 3.1278e-9))
        channels.append(np.sort(np.rint(np.concatenate((lit, dark))).astype(np.int64)))
    return channels


@pytest.mark.parametrize("g2", [0.0, 0.1, 0.5, 2.0])
def test_period_delay_and_g2_of_an_emitter_are_found_from_its_tags(g2):
    found = pulsed_g2(lags(*emitter(g2), 100, 100_000))

    assert found.period_ps == pytest.approx(PERIOD_PS, rel=2e-4)
    assert found.delay_ps == pytest.approx(DELAY_PS, abs=20)
    assert found.sides.size in (62, 63)
    # b has less where a clicks: its mean is p (1 - p (1 - g2))
    true = g2 / (1 - 0.03 * (1 - g2))
    sigma = np.sqrt(max(found.centre, 1)) / found.sides.mean()
    assert abs(found.g2_zero - true) < 5 * sigma
    assert found.low <= found.g2_zero <= found.high
    assert found.centre / found.sides.mean() == found.g2_zero


def test_dark_counts_are_taken_off():
    dark_hz = 3e6  # beside 9.6e6 from pulses
    found = pulsed_g2(lags(*emitter(0.1, dark_hz=dark_hz), 100, 100_000))

    lit, dark = 0.03 / (PERIOD_PS * 1e-12), dark_hz
    # in a peak of half a period dark counts meet light, light meets dark, dark meets dark
    level = (2 * lit * dark + dark**2) / 2
    share = level / (lit**2 + level)
    sigma = np.sqrt(found.centre) / found.sides.mean()
    assert found.background == pytest.approx(share, rel=0.03)
    assert abs(found.g2_zero - (0.1 * (1 - share) + share)) < 5 * sigma
    assert found.net_low < 0.1 < found.net_high
    assert abs(found.net - 0.1) < 5 * sigma / (1 - share)


def comb_of(rng, centre, side, between):
    """A histogram of 17 peaks of 20 bins each, the middle one with another mean, at delay 0."""
    counts = np.zeros(340, np.int64)
    for peak in range(17):
        counts[20 * peak + 10] += rng.poisson(centre if peak == 8 else side)
    counts[np.arange(0, 340, 20)] += rng.poisson(between, 17)
    return Lags(counts, -17_000, 100, 1000, 1000, 10**12)


@pytest.mark.parametrize(("centre", "side", "between"), [(0.5, 30, 0), (6, 60, 2), (40, 40, 8)])
def test_limits_fail_no_more_often_than_they_say(centre, side, between):
    """600 histograms: above EPS by chance with less than 6e-7 (z 5) at either limit."""
    rng = np.random.default_rng(5)
    failed = np.zeros(4)
    for _ in range(600):
        histogram = comb_of(rng, centre + between, side + between, between)
        found = pulsed_g2(histogram, period_ps=2000.0, delay_ps=0.0)
        true = (centre + between) / (side + between)
        failed += (true < found.low, true > found.high, False, False)
        # the peak of bins at its middle and the other half of a period have equal background
        failed += (False, False, centre / side < found.net_low, centre / side > found.net_high)
    assert failed.max() / 600 < EPS + 5 * np.sqrt(EPS * (1 - EPS) / 600)


def test_an_empty_centre_has_a_least_g2_of_nothing_and_the_rule_of_three_as_the_greatest():
    found = pulsed_g2(comb_of(np.random.default_rng(6), 0, 124, 0), 2000.0, 0.0)

    assert found.g2_zero == found.low == 0
    assert found.high == pytest.approx(-np.log(EPS) / found.sides.mean(), rel=0.01)


def test_a_laser_has_no_place_that_stands_out_and_its_delay_must_be_named():
    histogram = lags(*emitter(1.0), 100, 100_000)

    with pytest.raises(LinkError, match=r"^no delay stands out: .*; name the delay$"):
        pulsed_g2(histogram)
    found = pulsed_g2(histogram, delay_ps=DELAY_PS + 300)
    assert found.delay_ps == pytest.approx(DELAY_PS, abs=20)
    assert found.low < 1 < found.high


def test_a_delay_that_the_histogram_does_not_reach_is_refused():
    histogram = lags(*emitter(0.1, n_pulses=400_000), 100, 50_000)

    for delay in (60_000, -60_000):
        with pytest.raises(LinkError, match="does not reach so far"):
            pulsed_g2(histogram, delay_ps=delay)


def steady(rate_hz, seed, span_ps=10**12):
    rng = np.random.default_rng(seed)
    return np.sort(rng.integers(0, span_ps, rng.poisson(rate_hz)))


def test_steady_light_has_no_period():
    """By chance one is found with a probability of 1e-6."""
    with pytest.raises(LinkError, match=r"^no period stands out in"):
        pulse_period(lags(steady(300_000, 1), steady(300_000, 2), 100, 100_000))


def test_bins_must_resolve_the_period_and_the_histogram_hold_some():
    coarse = lags(*emitter(0.1, n_pulses=400_000), 300, 100_000)
    with pytest.raises(LinkError, match=r"bins of 300 ps are too wide for a period of 3127\.8 ps"):
        pulsed_g2(coarse, PERIOD_PS)
    short = lags(*emitter(0.1, n_pulses=400_000), 100, 10_000)
    with pytest.raises(LinkError, match=r"6\.4 periods of 3127\.8 ps in the histogram, at least 8"):
        pulsed_g2(short, PERIOD_PS)


def test_no_coincidences_are_refused():
    nothing = lags(steady(10, 1), steady(10, 2), 100, 100_000)

    with pytest.raises(LinkError, match=r"^no coincidence in any side peak"):
        pulsed_g2(nothing, PERIOD_PS, 0.0)


def test_independent_steady_light_has_a_g2_of_one():
    found = continuous_g2(lags(steady(400_000, 3), steady(500_000, 4), 1000, 10**6), 10_000, 5000)

    assert found.by_chance == pytest.approx(400_000 * 500_000 * 1e-8, rel=0.01)
    assert abs(found.count - found.by_chance) < 5 * np.sqrt(found.by_chance)
    assert found.low < found.g2_zero < found.high
    assert found.delay_ps == pytest.approx(5000, abs=1)


def test_pairs_of_steady_light_stand_out_at_their_delay():
    """10,000 pairs: g2 is 1 and their rate over that of chance, R / (R_a R_b w)."""
    pairs, a, b = steady(10_000, 5), steady(90_000, 6), steady(40_000, 7)
    first, second = (np.sort(np.concatenate(parts)) for parts in ((pairs, a), (pairs + 7300, b)))

    found = continuous_g2(lags(first, second, 100, 50_000), 1000)

    assert abs(found.delay_ps - 7300) <= 100
    by_chance = 100_000 * 50_000 * 1e-9
    assert found.g2_zero == pytest.approx(1 + 10_000 / by_chance, rel=0.05)
    assert found.low < 1 + 10_000 / by_chance < found.high


def test_steady_light_without_pairs_has_no_delay_that_stands_out():
    """By chance with a probability of 1e-6."""
    with pytest.raises(LinkError, match="no delay stands out"):
        continuous_g2(lags(steady(200_000, 8), steady(200_000, 9), 100, 50_000), 1000)


def test_limits_of_steady_light_fail_no_more_often_than_they_say():
    """600 records: above EPS by chance with less than 6e-7 (z 5)."""
    rng = np.random.default_rng(11)
    failed = np.zeros(2)
    for _ in range(600):
        counts = rng.poisson(4.0, 100)
        found = continuous_g2(Lags(counts, -5000, 100, 2000, 2000, 10**8), 100, 50.0)
        true = 4.0 / found.by_chance
        failed += (true < found.low, true > found.high)
    assert failed.max() / 600 < EPS + 5 * np.sqrt(EPS * (1 - EPS) / 600)


def test_windows_beyond_the_histogram_and_empty_channels_are_refused():
    histogram = lags(steady(1000, 1), steady(1000, 2), 100, 1000)

    with pytest.raises(LinkError, match="does not reach so far"):
        continuous_g2(histogram, 400, 900.0)
    for window, found in ((10_000, histogram), (100, lags(steady(9, 1), steady(0, 1), 10, 100))):
        with pytest.raises(LinkError, match=f"^g2 within {window} ps"):
            continuous_g2(found, window, 0.0)
