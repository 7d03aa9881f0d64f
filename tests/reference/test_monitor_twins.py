"""The kernels of the monitors beside plain twins, compiled and interpreted."""

import numpy as np
import pytest

from qkd_core.kernels.monitors import DETECTORS, census, event_census

PERIOD_PS, PARTS = 997.3, 16


def plain(time_ps, detector, phase, left_out, seen):
    """As `census`, click by click in Python's numbers."""
    slots = []
    for t, d in zip(time_ps.tolist(), detector.tolist(), strict=True):
        turns = t / PERIOD_PS - phase + 0.5
        slot = int(turns // 1)
        if slot in left_out.tolist():
            continue
        seen[d * PARTS + min(int((turns - slot) * PARTS), PARTS - 1)] += 1
        slots.append(slot)
    return len(slots) - len(set(slots))


@pytest.mark.parametrize("kernel", [census, census.py_func], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("n", [0, 1, 2, 300])
@pytest.mark.parametrize("phase", [-0.2, 0.0, 0.43])
def test_arrivals_and_double_clicks_are_counted_as_by_hand(kernel, n, phase):
    rng = np.random.default_rng(n)
    time_ps = np.sort(rng.integers(0, 200_000, n))
    detector = rng.integers(0, DETECTORS, n, dtype=np.uint8)
    left_out = np.unique(rng.integers(-1, 200, n // 5))
    found, expected = np.ones(DETECTORS * PARTS, np.int64), np.ones(DETECTORS * PARTS, np.int64)

    n_again = kernel(time_ps, detector, PERIOD_PS, phase, left_out, found)

    assert n_again == plain(time_ps, detector, phase, left_out, expected)
    np.testing.assert_array_equal(found, expected)
    assert n < 3 or n_again > 0


def plain_events(time_ps, detector, window_ps, hold_off_ps):
    """Events as `form_events` has them, from the clicks on either side of each."""
    events, live_ps = [], 0
    for i in range(1, len(time_ps)):
        gap = time_ps[i] - time_ps[i - 1]
        live_ps += max(0, gap - hold_off_ps)
        if events and time_ps[i] - time_ps[events[-1][0]] <= window_ps:
            events[-1][1].add(detector[i])
        elif gap >= hold_off_ps:
            events.append((i, {detector[i]}))
    begun = [sum(detector[i] == d for i, _ in events) for d in range(DETECTORS)]
    return sum(len(seen) > 1 for _, seen in events), [*begun, live_ps]


@pytest.mark.parametrize(
    "kernel", [event_census, event_census.py_func], ids=["compiled", "interpreted"]
)
@pytest.mark.parametrize("n", [0, 1, 2, 400])
@pytest.mark.parametrize(("window_ps", "hold_off_ps"), [(0, 0), (30, 100), (300, 100)])
def test_events_of_several_detectors_are_counted_as_by_hand(kernel, n, window_ps, hold_off_ps):
    rng = np.random.default_rng(n)
    time_ps = np.sort(rng.integers(0, 100 * (n + 1), n))
    detector = rng.integers(0, DETECTORS, n, dtype=np.uint8)
    found = np.full(DETECTORS + 1, -1, np.int64)

    n_several = kernel(time_ps, detector, window_ps, hold_off_ps, found)

    by_hand = plain_events(time_ps.tolist(), detector.tolist(), window_ps, hold_off_ps)
    assert (n_several, found.tolist()) == by_hand
    assert n < 3 or not window_ps or n_several > 0


def test_read_only_arrays_are_taken_and_others_refused():
    time_ps, detector = np.arange(3), np.zeros(3, np.uint8)
    for array in (time_ps, detector):
        array.flags.writeable = False
    seen = np.zeros(DETECTORS * PARTS, np.int64)
    assert census(time_ps, detector, PERIOD_PS, 0.0, time_ps[:0], seen) == 2

    with pytest.raises(TypeError):
        census(time_ps.astype(np.int32), detector, PERIOD_PS, 0.0, time_ps[:0], seen)
    with pytest.raises(TypeError):
        census(time_ps[::2], detector[::2], PERIOD_PS, 0.0, time_ps[:0], seen)
