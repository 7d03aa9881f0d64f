"""The announced times: exact but for the rounding, short, and refused when malformed."""

import sys
from math import e, log2
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.errors import ChannelError, LinkError
from qkd_core.photons import event_times
from qkd_core.photons.event_times import HEADER, decoded, encoded

sys.path.insert(0, str(Path(__file__).parents[2] / "property"))
from altered_bodies import altered, refused

sys.path.pop(0)

GAP = 50_000


def random_times(n, mean_ps=2_500_000, seed=1):
    gaps = GAP + np.random.default_rng(seed).exponential(mean_ps - GAP, n).astype(np.int64)
    return 7_000_000_000_000 + np.cumsum(gaps)


BODY = encoded(random_times(40), 16)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 9, 1000])
@pytest.mark.parametrize("resolution", [1, 16, 1000])
def test_times_come_back_rounded_to_the_resolution(n, resolution):
    times = random_times(n)

    back = decoded(encoded(times, resolution), resolution, GAP)

    assert back.dtype == np.int64
    assert np.all(np.abs(back - times) <= resolution / 2)


def test_negative_times_and_a_long_silence_come_back():
    times = np.array([-(10**15), -(10**15) + 60_000, 5, 10**12, 10**17])

    np.testing.assert_array_equal(decoded(encoded(times, 1), 1, GAP), times)


def test_a_time_takes_about_its_entropy():
    """Of an exponential gap with mean m units it is log2(e m) bits; the code takes up to .5 more.

    Of 200,000 gaps the mean length has a standard deviation of .003 bits.
    """
    n, resolution, mean_ps = 200_000, 16, 2_500_000

    bits = 8 * len(encoded(random_times(n, mean_ps), resolution)) / n

    assert bits < log2(e * (mean_ps - GAP) / resolution) + 0.5


def test_a_body_of_another_resolution_or_hold_off_is_refused_where_it_cannot_be_true():
    with pytest.raises(ChannelError, match="two are 50000 ps apart"):
        decoded(encoded(np.array([0, 50_000, 200_000]), 1), 1, 60_000)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ((0, event_times.EVENTS_MAX + 1, 2**24, 3), "events"),
        ((0, 3, 9, 3), "9 bits of quotients"),
        ((0, 3, 2, 60), "60 low bits"),
        ((1 << 60, 3, 2, 0), "3 events from 11529215"),
        ((0, 3, 2, 20), "bytes for 3 events"),
        ((0, 3, 8, 0), "gaps for 3 events"),
        ((0, 0, 1, 0), "1 bits of quotients"),
    ],
)
def test_a_false_header_is_refused_before_anything_is_made_of_it(header, told):
    with pytest.raises(ChannelError, match=told):
        decoded(HEADER.pack(*header) + b"\xc0", 16, GAP)


def test_too_many_events_are_refused_where_they_are_made(monkeypatch):
    monkeypatch.setattr(event_times, "EVENTS_MAX", 10)

    with pytest.raises(LinkError, match="11 events in a block, at most 10"):
        encoded(random_times(11), 16)


@settings(deadline=None)
@given(altered(BODY))
def test_a_body_is_refused_or_it_is_that_of_its_times(body):
    found = []
    if not refused(lambda: found.append(decoded(body, 16, GAP)), ChannelError):
        [times] = found
        assert np.all(np.diff(times) > 0)
        assert times.size <= event_times.EVENTS_MAX
        np.testing.assert_array_equal(decoded(encoded(times, 16), 16, GAP), times)


@settings(deadline=None)
@given(st.lists(st.integers(GAP, 10**10), max_size=60), st.integers(-(10**17), 10**17))
def test_any_times_come_back(gaps, first):
    times = first + np.cumsum(np.array([0, *gaps]))

    np.testing.assert_array_equal(decoded(encoded(times, 1), 1, GAP), times)
