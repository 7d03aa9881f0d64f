import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import ChannelError
from qkd_core.photons.clicks import decoded, encoded

N_PULSES = 10**9


@given(st.sets(st.integers(0, N_PULSES - 1), max_size=50))
def test_slots_survive_the_message(slots):
    slot = np.array(sorted(slots), np.int64)

    np.testing.assert_array_equal(decoded(encoded(slot), N_PULSES), slot)


@pytest.mark.parametrize("slot", [0, 65533, 65534, 65535, 131069, 131070, N_PULSES - 1])
def test_slots_at_the_edges_of_the_units_survive(slot):
    np.testing.assert_array_equal(decoded(encoded(np.array([slot])), N_PULSES), [slot])


def test_dense_clicks_take_two_bytes_each():
    assert len(encoded(np.arange(0, 10**7, 2000))) == 2 * 5000


@pytest.mark.parametrize(
    ("units", "why"),
    [
        ([0], "before the first slot"),
        ([5, 0], "twice the same slot"),
        ([65535], "the gap has no end"),
        ([5, 65535], "the last gap has no end"),
        ([1001], "beyond the last pulse"),
    ],
)
def test_a_click_list_that_nobody_makes_is_refused(units, why):
    with pytest.raises(ChannelError):
        decoded(np.array(units, "<u2").tobytes(), 1000)


@given(st.binary(max_size=200))
def test_any_bytes_are_slots_in_range_or_a_channel_error(body):
    try:
        slot = decoded(body, 100_000)
    except ChannelError:
        return
    assert encoded(slot) == body
    assert np.all(np.diff(slot) > 0)
    assert not slot.size or (slot[0] >= 0 and slot[-1] < 100_000)
