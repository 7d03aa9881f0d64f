"""The kernels of coincidences and correlations, each beside a plain twin."""

import numpy as np
import pytest

from qkd_core.kernels.coincidence import coincide, form_events
from qkd_core.kernels.correlation import count_lags, fold


def rising(rng, n, span):
    return np.sort(rng.integers(0, span, n))


def plain_events(times, detectors, window, hold_off):
    """From the definition: every click asks for itself what it is."""
    events = []
    for i, (t, d) in enumerate(zip(times, detectors, strict=True)):
        if events and t - events[-1][0] <= window:
            events[-1][1] |= 1 << d
        elif i and not any(t - before < hold_off for before in times[:i]):
            events.append([t, 1 << d])
    return events


@pytest.mark.parametrize("seed", range(8))
def test_events_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    times = rising(rng, 300, 40_000)
    detectors = rng.integers(0, 4, times.size).astype(np.uint8)
    event_ps, seen = np.zeros(300, np.int64), np.zeros(300, np.uint8)

    n = form_events(times, detectors, 30, 100, event_ps, seen)

    expected = plain_events(times.tolist(), detectors.tolist(), 30, 100)
    assert 20 < n < 280
    assert max(mask.bit_count() for _, mask in expected) > 1
    assert [[int(t), int(s)] for t, s in zip(event_ps[:n], seen[:n], strict=True)] == expected


def test_times_that_are_not_in_order_make_no_events():
    event_ps, seen = np.zeros(3, np.int64), np.zeros(3, np.uint8)

    assert form_events(np.array([5, 9, 8]), np.zeros(3, np.uint8), 1, 2, event_ps, seen) == -1


def plain_pairs(a, b, reach):
    free, pairs = list(range(len(b))), []
    for i, t in enumerate(a):
        for j in free:
            if abs(int(b[j]) - int(t)) <= reach:
                pairs.append((i, j))
                free = [k for k in free if k > j]
                break
    return pairs


@pytest.mark.parametrize("seed", range(8))
def test_coincidences_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    a, b = rising(rng, 200, 30_000), rising(rng, 150, 30_000)
    in_a, in_b = np.zeros(150, np.int64), np.zeros(150, np.int64)

    n = coincide(a, b, 40, in_a, in_b)

    pairs = plain_pairs(a, b, 40)
    assert 20 < n < 150
    assert list(zip(in_a[:n].tolist(), in_b[:n].tolist(), strict=True)) == pairs


@pytest.mark.parametrize(("a", "b"), [([], [1, 2]), ([1, 2], []), ([], [])])
def test_an_end_without_events_has_no_coincidences(a, b):
    room = np.zeros(2, np.int64)

    assert coincide(np.array(a, np.int64), np.array(b, np.int64), 5, room, room.copy()) == 0


@pytest.mark.parametrize("seed", range(4))
def test_lags_are_counted_each_once(seed):
    rng = np.random.default_rng(seed)
    a, b = rising(rng, 120, 9000), rising(rng, 140, 9000)
    counts = np.zeros(25, np.int64)

    count_lags(a, b, -130, 10, counts)

    lags = (b[None, :] - a[:, None]).ravel()
    expected, _ = np.histogram(lags, bins=np.arange(-130, 121, 10))
    expected[-1] -= np.count_nonzero(lags == 120)  # numpy's last bin holds its upper edge, too
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("rate", [0.0, 3e-4, -2e-4])
def test_a_fold_puts_each_time_on_its_place_of_the_circle(rate):
    rng = np.random.default_rng(3)
    times = rising(rng, 500, 1_000_000)
    counts = np.zeros(64, np.float32)

    fold(times, 400_000, 128, rate, counts)

    since = times - 400_000
    moved = since + np.trunc(since * rate).astype(np.int64)
    np.testing.assert_array_equal(counts, np.bincount(moved // 128 % 64, minlength=64))
