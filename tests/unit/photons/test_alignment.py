import numpy as np
import pytest

from qkd_core.errors import LinkError
from qkd_core.photons.alignment import align
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance


def no_entropy(n):
    assert n == 0, "no random bit is needed here"
    return b""


def detections(time_ps, detector):
    return Detections(
        BlockId(1), np.array(time_ps, np.int64), np.array(detector, np.uint8), Provenance.DEVICE
    )


@pytest.mark.parametrize("phase_ps", [-240, -3, 0, 3, 250, 500, 740])
def test_slots_are_found_for_any_phase_within_the_period(settings, phase_ps):
    rng = np.random.default_rng(4)
    slot = np.unique(rng.integers(1, settings.n_pulses, 20_000))
    time = slot * 1000 + phase_ps + np.rint(rng.normal(0, 60, slot.size)).astype(np.int64)
    outcome = rng.integers(0, 4, slot.size)

    # 60 ps of jitter leave a slot of 1000 ps with 8e-17 each: false alarm below 1e-11
    raw = align(detections(time, outcome), settings, no_entropy)

    np.testing.assert_array_equal(raw.slot, slot)
    np.testing.assert_array_equal(raw.basis, outcome >> 1)
    np.testing.assert_array_equal(raw.bit, outcome & 1)


def test_clicks_outside_the_block_are_dropped(settings):
    last = settings.n_pulses * 1000
    times = [-700, -499, 100, last - 900, last + 100]

    raw = align(detections(times, [0, 1, 2, 3, 0]), settings, no_entropy)

    assert raw.slot.tolist() == [0, settings.n_pulses - 1]
    assert raw.bit.tolist() == [0, 1]


@pytest.mark.parametrize(("drawn", "bit"), [(0, 0), (1, 1), (255, 1)])
def test_a_double_click_becomes_a_random_bit_in_its_basis(settings, drawn, bit):
    raw = align(detections([5000, 5040, 9000], [2, 3, 1]), settings, lambda n: bytes([drawn] * n))

    assert raw.slot.tolist() == [5, 9]
    assert raw.basis.tolist() == [1, 0]
    assert raw.bit.tolist() == [bit, 1]


@pytest.mark.parametrize(("drawn", "basis", "bit"), [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)])
def test_clicks_in_both_bases_get_a_random_basis_too(settings, drawn, basis, bit):
    raw = align(detections([5000, 5010], [0, 3]), settings, lambda n: bytes([drawn] * n))

    assert (raw.basis[0], raw.bit[0]) == (basis, bit)


def test_the_same_detector_twice_in_a_slot_is_one_event(settings):
    raw = align(detections([5000, 5300], [3, 3]), settings, no_entropy)

    assert raw.slot.tolist() == [5]
    assert (raw.basis[0], raw.bit[0]) == (1, 1)


def test_double_clicks_are_fair(settings):
    n = 4000
    slot = np.repeat(np.arange(n), 2)
    rng = np.random.default_rng(8)

    raw = align(detections(slot * 1000, np.tile([0, 1], n)), settings, rng.bytes)

    # six standard deviations: false alarm 2e-9
    assert abs(int(raw.bit.sum()) - n / 2) < 6 * n**0.5 / 2


@pytest.mark.parametrize(
    ("times", "detectors"), [([5, 4], [0, 0]), ([4, 5], [0, 4]), ([4, 5], [0])]
)
def test_tags_that_no_receiver_makes_are_a_link_error(settings, times, detectors):
    with pytest.raises(LinkError):
        align(detections(times, detectors), settings, no_entropy)


def test_no_click_is_no_event(settings):
    assert align(detections([], []), settings, no_entropy).slot.size == 0
