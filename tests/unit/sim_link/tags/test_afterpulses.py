"""Dead time and afterpulses of a detector whose law is known are found from its clicks."""

import numpy as np
import pytest

from qkd_core.errors import LinkError
from qkd_sim_link.tags.afterpulses import afterpulsing

DEAD_PS, DECAY_PS = 80_000, 30_000


def clicks(probability, *, rate_hz=40_000, n=150_000, seed=1):
    """Steady light; after a dead time an afterpulse with a probability, soon."""
    rng = np.random.default_rng(seed)
    waits = DEAD_PS + rng.exponential(1e12 / rate_hz, n)
    again = rng.random(n) < probability
    waits[again] = np.minimum(waits[again], DEAD_PS + rng.exponential(DECAY_PS, again.sum()))
    return np.cumsum(np.rint(waits).astype(np.int64))


@pytest.mark.parametrize("probability", [0.01, 0.05, 0.2])
def test_the_excess_is_the_mean_number_of_afterpulses_cascades_included(probability):
    """p + p^2 + ... = p / (1 - p), within 5 standard deviations: by chance below 6e-7."""
    found = afterpulsing(clicks(probability), 1_000_000)

    assert DEAD_PS <= found.dead_time_ps < DEAD_PS + 50
    # live light in place of an afterpulse, and what comes within the next dead time
    assert abs(found.excess - probability / (1 - probability)) < 5 * found.sigma + 1e-4
    if probability < 0.1:  # the second of a cascade comes later
        assert abs(found.half_ps - DECAY_PS * np.log(2)) < 8000  # a bin


def test_a_detector_without_afterpulses_has_none():
    found = afterpulsing(clicks(0.0), 1_000_000)

    assert abs(found.excess) < 5 * found.sigma + 1e-4
    assert (found.half_ps is None) == (found.excess <= 2 * found.sigma)


def test_the_standard_deviation_is_that_of_many_records():
    """Of 60 records: within a third, beyond that by chance with less than 1e-3, seeds fixed."""
    excesses = [afterpulsing(clicks(0.02, n=20_000, seed=k), 1_000_000) for k in range(60)]

    spread = np.std([found.excess for found in excesses])
    assert spread == pytest.approx(excesses[0].sigma, rel=0.33)


def test_too_few_clicks_and_too_short_a_reach_are_refused():
    with pytest.raises(LinkError, match="999 clicks and 1000000 ps say nothing of afterpulses"):
        afterpulsing(clicks(0.1)[:999], 1_000_000)
    with pytest.raises(LinkError, match="127 ps say nothing"):
        afterpulsing(clicks(0.1), 127)
