"""Alignment beside its definition, slot by slot, for clicks that stay clear of a slot's ends."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.kernels.alignment import PHASES, arrivals
from qkd_core.photons.alignment import align, mean_phase
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import DecoySettings


def settings_of(clock_hz: float, n_pulses: int) -> DecoySettings:
    return DecoySettings(
        clock_hz=clock_hz,
        n_pulses=n_pulses,
        intensities=(0.5, 0.1, 0.0),
        probabilities=(0.5, 0.3, 0.2),
        p_key_basis=0.9,
    )


def by_slots(slots, detectors, n_pulses, entropy):
    """(slot, basis, bit) of each event, one slot after the other."""
    clicked: dict[int, list[int]] = {}
    for slot, detector in zip(slots.tolist(), detectors.tolist(), strict=True):
        if 0 <= slot < n_pulses:
            clicked.setdefault(slot, []).append(detector)
    drawn = iter(entropy(sum(len(set(several)) > 1 for several in clicked.values())))
    events = []
    for slot, several in clicked.items():
        basis, bit = several[0] >> 1, several[0] & 1
        if len(set(several)) > 1:
            byte = next(drawn)
            bit = byte & 1
            if len({detector >> 1 for detector in several}) > 1:
                basis = byte >> 1 & 1
        events.append((slot, basis, bit))
    return events


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(0, 300),
    n_pulses=st.integers(1, 400),
    clock_hz=st.sampled_from([1e9, 1.25e9, 7.31e8, 1e8]),
    phase=st.floats(-0.2, 0.7),
)
def test_events_are_those_of_the_slots(seed, n, n_pulses, clock_hz, phase):
    """Clicks within a tenth of a period of their mean: the ends of a slot are four tenths off."""
    rng = np.random.default_rng(seed)
    period_ps = 1e12 / clock_hz
    slots = np.sort(rng.integers(-3, n_pulses + 3, n))
    offset = np.sort(rng.uniform(-0.05, 0.05, n)) + phase
    time_ps = np.sort(np.rint((slots + offset) * period_ps).astype(np.int64))
    detectors = rng.integers(0, 4, n).astype(np.uint8)
    detections = Detections(BlockId(1), time_ps, detectors, Provenance.SIMULATED)

    def entropy(k):
        return np.random.default_rng(seed).bytes(k)

    raw = align(detections, settings_of(clock_hz, n_pulses), entropy)

    found = list(zip(raw.slot.tolist(), raw.basis.tolist(), raw.bit.tolist(), strict=True))
    assert found == by_slots(slots, detectors, n_pulses, entropy)


@given(st.integers(0, 2**32), st.floats(-0.24, 0.74), st.floats(1, 1e5))
def test_the_mean_phase_is_that_of_the_arrivals(seed, phase, period_ps):
    """Off by less than the half of a part, and by what the rounding to picoseconds takes."""
    rng = np.random.default_rng(seed)
    time_ps = np.rint((rng.integers(0, 10**6, 50) + phase) * period_ps).astype(np.int64)
    turns = np.exp(2j * np.pi * (time_ps / period_ps))

    counts, _ = arrivals(time_ps, period_ps)

    assert counts.sum() == 50
    if abs(turns.mean()) > 0.5:  # else the phase is no matter of a few picoseconds
        away = (mean_phase(counts) - np.angle(turns.mean()) / (2 * np.pi) + 0.5) % 1 - 0.5
        assert abs(away) < 1.1 / PHASES


@given(st.lists(st.integers(-(10**6), 10**6), max_size=30))
def test_any_step_back_in_time_is_seen(times):
    _, ordered = arrivals(np.array(times, np.int64), 1000.0)
    assert ordered == (sorted(times) == times)
