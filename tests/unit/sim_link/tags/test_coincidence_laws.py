"""Coincidences of simulated records follow the laws of pairs, jitter and chance.

Each count is within 5 standard deviations of its law: by chance otherwise below 6e-7, seeds fixed.
"""

import sys
from math import erf, sqrt
from pathlib import Path

import numpy as np
import pytest

from qkd_core.photons.clock import coincidences

sys.path.insert(0, str(Path(__file__).parent))
from pair_records import Light, records

sys.path.pop(0)


@pytest.mark.parametrize("offset_ps", [0, 60, -150])
@pytest.mark.parametrize("window_ps", [100, 300, 520])
def test_the_window_misses_what_jitter_carries_out_of_it(window_ps, offset_ps):
    """1 - [erf((w/2 - d) / (sqrt 2 s)) + erf((w/2 + d) / (sqrt 2 s))] / 2, s of both ends.

    The rate is so low that other pairs hardly count: less than 2e-4 of them have one as near.
    """
    jitter = 70.0
    light = Light(pairs=20_000, only_a=0, only_b=0, jitter_ps=jitter)
    a, b = records(light, 5.0, seed=window_ps + abs(offset_ps))

    found = coincidences(a, b + offset_ps, window_ps // 2)[0].size

    spread, half = sqrt(2 * jitter**2 + 1 / 6), window_ps / 2 + 0.5  # of whole picoseconds
    seen = sum(erf((half + sign * offset_ps) / (sqrt(2) * spread)) for sign in (1, -1)) / 2
    n = a.size
    assert abs(found - n * seen) < 5 * sqrt(n * seen * (1 - seen) + 1) + 2e-4 * n


@pytest.mark.parametrize("window_ps", [2000, 20_000])
def test_unrelated_light_coincides_at_the_product_of_the_rates_and_the_window(window_ps):
    """R_a R_b w T, less what finds its partner taken: at most a share (R_a + R_b) w of them."""
    rate_a, rate_b, seconds = 150_000, 90_000, 10.0
    a, b = records(Light(pairs=0, only_a=rate_a, only_b=rate_b), seconds, seed=window_ps)

    found = coincidences(a, b, window_ps // 2)[0].size

    expected = rate_a * rate_b * (window_ps + 1) * 1e-12 * seconds
    taken = (rate_a + rate_b) * window_ps * 1e-12
    # the records' own numbers of events vary as well
    sigma = sqrt(expected + expected**2 * (1 / a.size + 1 / b.size))
    assert -5 * sigma - taken * expected < found - expected < 5 * sigma


def test_coincidences_to_accidentals():
    """CAR = (C + A) / A with A = R_a R_b w, seen a long way from the peak."""
    light = Light(pairs=8000, only_a=150_000, only_b=120_000, jitter_ps=50.0)
    window_ps, seconds = 2000, 8.0
    a, b = records(light, seconds, seed=4)

    peak = coincidences(a, b, window_ps // 2)[0].size
    beside = [
        coincidences(a, b + away, window_ps // 2)[0].size for away in range(10**6, 9 * 10**6, 10**6)
    ]

    accidental = 158_000 * 128_000 * (window_ps + 1) * 1e-12 * seconds
    assert abs(np.mean(beside) - accidental) < 5 * sqrt(accidental / 8)
    true = 8000 * seconds
    assert abs(peak - true - accidental) < 5 * sqrt(true + accidental)
    assert peak / np.mean(beside) == pytest.approx((true + accidental) / accidental, rel=0.05)
