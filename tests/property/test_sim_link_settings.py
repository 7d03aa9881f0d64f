from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.types.plans import DecoySettings
from qkd_sim_link.sampling.pulses import alice_cells, bob_threshold, settings_at

N = 2**40
SLOTS = st.lists(st.integers(0, N - 1), min_size=0, max_size=50)


def decoy(p_1: float, p_2: float, p_key_basis: float) -> DecoySettings:
    return DecoySettings(
        clock_hz=1e9,
        n_pulses=N,
        intensities=(0.5, 0.1, 0.001),
        probabilities=(p_1, p_2, 1 - p_1 - p_2),
        p_key_basis=p_key_basis,
    )


@cache
def one_by_one(seed: int, slot: int) -> int:
    return int(settings_at(seed, np.array([slot]), decoy(0.5, 0.3, 0.75))[0])


@given(st.integers(0, 2**256 - 1), SLOTS)
def test_any_subset_in_any_order_gives_the_same_settings(seed, slots):
    asked = np.array(slots, np.int64)

    chosen = settings_at(seed, asked, decoy(0.5, 0.3, 0.75))

    assert chosen.tolist() == [one_by_one(seed, slot) for slot in slots]


@given(st.integers(0, 2**64 - 1), SLOTS)
def test_settings_name_a_bit_a_basis_and_one_of_three_intensities(seed, slots):
    chosen = settings_at(seed, np.array(slots, np.int64), decoy(0.5, 0.3, 0.75))

    assert np.all(chosen < 12)


@given(
    st.floats(2**-32, 0.5),
    st.floats(2**-32, 0.49),
    st.floats(2**-32, 1 - 2**-32),
)
def test_probabilities_are_resolved_below_two_to_the_minus_32(p_1, p_2, p_key_basis):
    settings = decoy(p_1, p_2, p_key_basis)

    widths = np.diff(np.concatenate(([0.0], alice_cells(settings) / 2.0**63)))

    wanted = np.outer(settings.probabilities, [p_key_basis, 1 - p_key_basis]).ravel()
    np.testing.assert_allclose(widths, wanted, atol=2**-50)
    assert abs(int(bob_threshold(settings)) / 2**64 - p_key_basis) < 2**-50
