"""Lags are counted exactly, in bins with exact ends, and refused where they would be wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import LinkError
from qkd_sim_link.tags.histogram import lags

MANY = st.lists(st.integers(0, 4000), max_size=60).map(sorted)


def times(values):
    return np.array(values, np.int64)


@given(MANY, MANY, st.integers(1, 90), st.integers(1, 1500), st.integers(-(1 << 60), 1 << 60))
def test_every_pair_is_in_the_bin_of_its_lag(a, b, bin_ps, reach_ps, zero):
    found = lags(times(a) + zero, times(b) + zero, bin_ps, reach_ps)

    half = -found.low_ps // bin_ps
    assert (half - 1) * bin_ps < reach_ps <= half * bin_ps == -found.low_ps
    expected = [0] * (2 * half)
    for early in a:
        for late in b:
            place = (late - early + half * bin_ps) // bin_ps
            if 0 <= place < 2 * half:
                expected[place] += 1
    assert found.counts.tolist() == expected
    assert (found.n_a, found.n_b) == (len(a), len(b))


@given(MANY, MANY)
def test_the_other_order_of_channels_mirrors_the_lags(a, b):
    """Exactly so in bins of a picosecond, of which bin k then holds the lag low + k alone."""
    one, other = lags(times(a), times(b), 1, 500), lags(times(b), times(a), 1, 500)

    np.testing.assert_array_equal(one.counts[1:], other.counts[1:][::-1])


def test_bins_are_told_by_their_middles():
    assert lags(times([0]), times([0]), 1, 2).middle_ps().tolist() == [-2, -1, 0, 1]
    assert lags(times([0]), times([0]), 4, 8).middle_ps().tolist() == [-6.5, -2.5, 1.5, 5.5]


def test_unrelated_light_has_the_counts_of_chance():
    """Summed over 400 bins chi-squared is within 5 of its deviations: by chance below 6e-7."""
    rng = np.random.default_rng(1)
    a, b = (np.sort(rng.integers(0, 10**12, rng.poisson(60_000))) for _ in range(2))

    found = lags(a, b, 10**6, 2 * 10**8)

    expected = found.by_chance()
    chi2 = float(np.sum((found.counts - expected) ** 2 / expected))
    assert abs(chi2 - expected.size) < 5 * np.sqrt(2 * expected.size)
    assert abs(found.counts.sum() - expected.sum()) < 5 * np.sqrt(expected.sum())


def test_late_lags_have_less_of_the_record():
    """A comb of 1000 has 1000 - k pairs that are k teeth apart."""
    comb = 1000 * np.arange(1000)

    expected = lags(comb, comb, 1000, 900_000).by_chance()

    assert expected[900] == pytest.approx(1001, abs=1)
    assert expected[1700] == pytest.approx(200, abs=2)


@pytest.mark.parametrize(
    ("bin_ps", "reach_ps"), [(0, 100), (-1, 100), (1, 0), (10, -5), (1, 1 << 24)]
)
def test_impossible_bins_are_refused(bin_ps, reach_ps):
    with pytest.raises(LinkError, match=f"^bins of {bin_ps} ps up to {reach_ps} ps"):
        lags(times([1]), times([2]), bin_ps, reach_ps)


def test_times_out_of_order_are_refused_with_their_place():
    with pytest.raises(LinkError, match="second channel is not in time order: tag 2 is 3 ps bef"):
        lags(times([1, 1]), times([1, 8, 5]), 1, 10)


def test_no_events_have_no_lags():
    found = lags(times([]), times([]), 10, 100)

    assert not found.counts.any()
    assert not found.by_chance().any()
