import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.photons import monitors
from qkd_core.photons.monitors import live_slots


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 60), unique=True).map(sorted),
    st.lists(st.integers(0, 60), unique=True).map(sorted),
    st.integers(1, 12),
)
def test_live_slots_are_those_without_a_click_before_them(asked, clicked, n_dead):
    found = live_slots(np.array(asked, np.int64), np.array(clicked, np.int64), n_dead)

    assert found.tolist() == [
        slot for slot in asked if not any(slot - n_dead < click < slot for click in clicked)
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 40), unique=True).map(sorted),
    st.lists(st.integers(0, 40), unique=True).map(sorted),
)
def test_the_events_of_shots_are_left_out_and_no_other(slots, shots):
    kept = monitors._except(np.array(slots, np.int64), np.array(shots, np.int64))

    assert kept.tolist() == [slot not in shots for slot in slots]
