"""A clock that drifts, bends and breaks off is followed to picoseconds, or named as lost.

The true clock is known. Seeds are fixed; the bounds of errors are above 6 standard deviations.
"""

import sys
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import ClockNotFound, LinkError
from qkd_core.photons.clock import ClockRelation
from qkd_sim_link.tags.track import BentRelation, Following, Lock, followed

sys.path.insert(0, str(Path(__file__).parent))
from pair_records import Light, records

sys.path.pop(0)

LIGHT = Light(pairs=20_000, only_a=100_000, only_b=30_000)
LAW = Following(epoch_ps=50 * 10**9, window_ps=1000, jerk_per_s2=1e-8, coast_max=10, find_epochs=2)
EARTH_M, ORBIT_M, MU, C = 6.371e6, 6.871e6, 3.986004418e14, 299_792_458.0


def flight_s(t):
    """How long light takes from a satellite 500 km up that is overhead at 0, by Newton's law."""
    angle = sqrt(MU / ORBIT_M**3) * t
    return np.sqrt(EARTH_M**2 + ORBIT_M**2 - 2 * EARTH_M * ORBIT_M * np.cos(angle)) / C


def from_pass(begin_s):
    """How much later than at the begin Bob's clock shows the light of an instant."""
    return lambda t: flight_s(begin_s + t) - flight_s(begin_s)


def errors_ps(fixes, late_s):
    """float64[n]: of each clock, in the middle of its epoch."""
    known = [fix.clock for fix in fixes if fix.clock]
    at_a = np.array([clock.at_a for clock in known], np.float64)
    shown = np.array([clock.at_b - clock.at_a for clock in known])
    return shown - late_s(at_a * 1e-12) * 1e12


@pytest.mark.parametrize("begin_s", [-230.0, -8.0, 150.0], ids=["rising", "overhead", "setting"])
def test_a_satellite_is_followed_through_its_pass(begin_s):
    """1000 coincidences of 85 ps an epoch: 2.7 ps each, and less by the filter."""
    late_s = from_pass(begin_s)
    a, b = records(LIGHT, 16.0, 1, late_s)

    fixes = list(followed(a, b, LAW))

    assert [fix.epoch for fix in fixes] == list(range(319))
    assert {fix.lock for fix in fixes} == {Lock.LOCKED}
    errors = errors_ps(fixes, late_s)
    assert np.abs(errors[10:]).max() < 15
    assert errors[10:].std() < 3.5
    assert np.all(np.abs(errors) < 6 * np.array([fix.sigma_ps for fix in fixes]))
    if begin_s == -8.0:
        rates = [fix.clock.rate for fix in fixes[40:]]
        assert max(rates) == pytest.approx(3.2e-7, rel=0.2)
    else:
        assert max(abs(fix.clock.drift) for fix in fixes) > 2.2e-5


@pytest.mark.parametrize("rate", [4e-7, -4e-7, 0.0])
def test_a_steady_rate_of_the_frequency_is_measured(rate):
    late_s = lambda t: 3e-6 * t + rate * t * t / 2  # noqa: E731
    a, b = records(LIGHT, 5.0, 2, late_s)

    fixes = list(followed(a, b, LAW))

    assert np.abs(errors_ps(fixes, late_s)[10:]).max() < 15
    assert fixes[-1].clock.rate == pytest.approx(rate, abs=2e-8)
    assert fixes[-1].clock.drift == pytest.approx(3e-6 + rate * 4.925, abs=2e-9)


def test_a_clock_coasts_through_a_short_break():
    late_s = from_pass(20.0)
    a, b = records(LIGHT, 5.0, 3, late_s)
    b = b[(b < 2 * 10**12) | (b >= 2.3 * 10**12)]

    fixes = list(followed(a, b, LAW))

    coasting = [fix for fix in fixes if fix.lock is Lock.COASTING]
    assert [fix.epoch for fix in coasting] == list(range(40, 46))
    assert {fix.lock for fix in fixes} == {Lock.LOCKED, Lock.COASTING}
    assert all(fix.late_ps is None and fix.n_coincidences == 0 for fix in coasting)
    sigmas = [fix.sigma_ps for fix in coasting]
    assert sigmas == sorted(sigmas)
    errors = np.abs(errors_ps(fixes, late_s))
    assert np.all(errors < 6 * np.array([fix.sigma_ps for fix in fixes]))
    assert errors[60:].max() < 15


def test_a_clock_is_lost_in_a_long_break_and_found_after_it():
    late_s = from_pass(-40.0)
    a, b = records(LIGHT, 5.0, 4, late_s)
    b = b[(b < 1.5 * 10**12) | (b >= 3 * 10**12)]

    fixes = list(followed(a, b, LAW))

    locks = [fix.lock for fix in fixes]
    assert (
        locks == [Lock.LOCKED] * 30 + [Lock.COASTING] * 10 + [Lock.LOST] * 20 + [Lock.LOCKED] * 39
    )
    assert all(fix.clock is None for fix in fixes[40:60])
    assert np.abs(errors_ps(fixes[70:], late_s)).max() < 15


def test_a_clock_that_leaps_is_lost_and_found_where_it_is():
    late_s = lambda t: 2e-6 * t + np.where(t >= 2, 7e-4, 0.0)  # noqa: E731
    a, b = records(LIGHT, 4.0, 5, late_s)

    fixes = list(followed(a, b, LAW))

    locks = [fix.lock for fix in fixes]
    assert locks[:50] == [Lock.LOCKED] * 40 + [Lock.COASTING] * 10
    assert locks[50] is Lock.LOST
    assert locks[51:] == [Lock.LOCKED] * 28
    assert np.abs(errors_ps(fixes[60:], late_s)).max() < 15


def test_what_an_orbit_tells_is_taken_off_before_the_clock_is_found():
    """Bob's record begins 100 ms after Alice's, beyond any search; his rate is 0.1 ppm off."""
    late_s = from_pass(170.0)
    a, b = records(LIGHT, 4.0, 8, lambda t: late_s(t) + 1e-7 * t + 2e-3)
    b = b[b >= 100 * 10**9]
    drift = (flight_s(170.01) - flight_s(169.99)) / 0.02
    expected = BentRelation(0, 0, float(drift), 2e-8)

    assert next(followed(a, b, LAW)).lock is Lock.LOST
    fixes = list(followed(a, b, LAW, expected=expected))

    assert [fix.lock for fix in fixes[2:]] == [Lock.LOCKED] * 77
    errors = errors_ps(fixes, lambda t: late_s(t) + 1e-7 * t + 2e-3)
    assert np.abs(errors[10:]).max() < 15


def test_a_clock_that_was_found_by_mistake_is_never_locked():
    """By chance with a probability of 1e-9 for each epoch."""
    a, b = records(Light(pairs=0, only_a=100_000, only_b=100_000), 2.0, 6)

    fixes = list(followed(a, b, LAW, lambda a, b: ClockRelation(int(a[0]), int(b[0]), 0.0)))

    assert Lock.LOCKED not in [fix.lock for fix in fixes]
    assert [fix.lock for fix in fixes[:11]] == [Lock.COASTING] * 10 + [Lock.LOST]
    assert all(fix.late_ps is None for fix in fixes)


def test_without_a_clock_each_epoch_is_lost():
    def find(a, b):
        raise ClockNotFound("nothing")

    fixes = list(followed(*records(LIGHT, 0.4, 7), LAW, find))

    assert [(fix.lock, fix.clock) for fix in fixes] == [(Lock.LOST, None)] * 7


def test_records_without_events_have_no_epochs_and_disorder_is_refused():
    some = np.arange(10, dtype=np.int64)
    for a, b in ((some[:0], some), (some, some[:0])):
        assert list(followed(a, b, LAW)) == []
    with pytest.raises(LinkError, match="record of Alice is not in time order"):
        list(followed(some[::-1].copy(), some, LAW))


@given(
    st.integers(-(1 << 58), 1 << 58),
    st.integers(-(1 << 58), 1 << 58),
    st.floats(-3e-5, 3e-5),
    st.floats(-1e-6, 1e-6),
    st.integers(-60 * 10**12, 60 * 10**12),
)
def test_times_come_back_from_the_other_clock(at_a, at_b, drift, rate, since):
    clock = BentRelation(at_a, at_b, drift, rate)

    by_bob = clock.to_bob(at_a + since)

    assert abs(int(clock.to_alice(np.array([by_bob]))[0]) - (at_a + since)) <= 1
    moved = clock.moved(at_a + since // 2)
    assert abs(moved.to_bob(at_a + since) - by_bob) <= 1
    assert abs(by_bob - at_b - since - since * (drift + rate / 2e12 * since)) <= 1


@pytest.mark.parametrize(
    "wrong", [{"epoch_ps": 0}, {"window_ps": -1}, {"jerk_per_s2": 0.0}, {"coast_max": -1}]
)
def test_a_law_that_cannot_be_is_refused(wrong):
    fields = {"epoch_ps": 1, "window_ps": 1, "jerk_per_s2": 1.0, "coast_max": 0, "find_epochs": 1}

    with pytest.raises(ValueError, match="all above 0, coast_max at least 0"):
        Following(**fields | wrong)
