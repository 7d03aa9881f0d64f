"""Figures for people: what a block of pairs shows of its windows, its clock and its state."""

import json
from math import sqrt

import numpy as np
import pytest

from qkd_core.photons.clock import ClockRelation
from qkd_core.photons.coincidences import Lags, Matched
from qkd_core.photons.entanglement import entanglement_of
from qkd_core.photons.pair_figures import coincidences_of
from qkd_core.ports.link import Outcomes
from qkd_core.types.plans import PairSettings

SETTINGS = PairSettings(link_s=2.0, window_ps=600, hold_off_ps=50_000, resolution_ps=16)
NOTHING = Outcomes(0, 0, np.zeros(0, np.uint64), np.zeros(0, np.uint64))


def matched(late_ps, accidental=0, clock=None):
    """Coincidences with these lags, and accidental ones at lags from -20 to 20 ns."""
    rng = np.random.default_rng(5)
    late = np.concatenate((late_ps, rng.integers(-20_000, 20_000, accidental)))
    a = 10**6 * np.arange(1, late.size + 1)
    clock = clock or ClockRelation(0, 0, 0.0)
    b = np.array([clock.to_bob(int(t)) for t in a + late])
    inside = late[np.abs(late) <= SETTINGS.window_ps // 2]
    lags = Lags(inside, np.zeros(inside.size, np.uint8), np.ones(inside.size, bool))
    return Matched(NOTHING, lags, clock, a, b)


def test_rate_and_clock_are_told():
    clock = ClockRelation(0, 3 * 10**12, 4e-6)

    found = coincidences_of(matched(np.zeros(500, int), clock=clock), SETTINGS)

    assert found.rate_hz == 250
    assert found.accidental == found.missed == 0
    assert found.car is None
    assert found.offset_s == pytest.approx(3.0)
    assert found.drift_ppm == pytest.approx(4.0)
    assert str(found).startswith("250.0 coincidences/s, 0.00% accidental, 0.00% missed;")


def test_misses_beside_the_window_and_accidentals_far_from_it_are_told_apart():
    """A lag of 400 ps is a miss. 40,000 accidentals fill each window of 600 ps with 600 +- 25.

    The allowances are five standard deviations or more: false alarm below 6e-7.
    """
    late = np.concatenate((np.zeros(9000, int), np.full(1000, 400)))

    found = coincidences_of(matched(late, accidental=40_000), SETTINGS)

    assert found.accidental == pytest.approx(600 / 9600, abs=0.005)
    assert found.car == pytest.approx((1 - found.accidental) / found.accidental)
    assert found.missed == pytest.approx(0.1, abs=0.04)


def certificate(n_errors, n_sifted, test_errors, n_test):
    tallies = {"n_key": n_sifted, "n_test": n_test, "test_errors": test_errors}
    return json.dumps({"tallies": tallies, "n_errors": n_errors, "n_sifted": n_sifted})


BLOCK = certificate(100, 10_000, 40, 2000)


def test_fidelity_and_chsh_follow_from_both_error_rates():
    """A perfect pair reaches 2 sqrt 2; QBER Q in both bases takes it to (1 - 2 Q) of that."""
    found = entanglement_of(BLOCK)

    assert (found.key_qber, found.test_qber) == (0.01, 0.02)
    assert found.fidelity_min == pytest.approx(0.97)
    assert found.chsh == pytest.approx(2 * sqrt(0.98**2 + 0.96**2))
    perfect = entanglement_of(certificate(0, 10_000, 0, 2000))
    assert perfect.chsh == pytest.approx(2 * sqrt(2))
    assert perfect.chsh_sigma == 0


def test_the_spread_of_chsh_is_that_of_counts():
    """Of 4000 drawn blocks the standard deviation is known to 1.1 %; five of them are allowed."""
    rng = np.random.default_rng(6)
    errors = zip(rng.binomial(2000, 0.02, 4000), rng.binomial(10_000, 0.01, 4000), strict=True)
    drawn = [entanglement_of(certificate(int(z), 10_000, int(x), 2000)).chsh for x, z in errors]

    assert np.std(drawn) == pytest.approx(entanglement_of(BLOCK).chsh_sigma, rel=0.06)


def test_a_block_of_noise_has_no_entanglement_to_speak_of():
    found = entanglement_of(certificate(50, 100, 50, 100))

    assert (found.fidelity_min, found.chsh, found.chsh_sigma) == (0.0, 0.0, 0.0)


def test_a_block_of_pulses_has_no_such_figures():
    tallies = {"key_counts": [1, 2, 3], "test_counts": [1, 2, 3], "test_errors": [0, 0, 0]}
    assert entanglement_of(json.dumps({"tallies": tallies, "n_errors": 1, "n_sifted": 6})) is None
