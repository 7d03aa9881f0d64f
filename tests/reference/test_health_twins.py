"""The kernels of the health tests beside plain twins, compiled and interpreted."""

from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.kernels import health

FEW_VALUES = st.binary(max_size=300) | st.lists(st.integers(0, 2), max_size=300).map(bytes)
WAYS = pytest.mark.parametrize("way", [lambda f: f, lambda f: getattr(f, "py_func", f)])


def parts(data, cuts):
    """``data`` cut into strings, as uint8[n] each."""
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [np.frombuffer(data[start:stop], np.uint8) for start, stop in pairwise(places)]


@WAYS
@settings(max_examples=60)
@given(data=FEW_VALUES)
def test_bytes_are_counted_and_the_changes_between_them(way, data):
    tables = np.zeros((4, 256), np.uint32)

    changes = way(health.count_bytes)(np.frombuffer(data, np.uint8), tables)

    np.testing.assert_array_equal(tables.sum(axis=0), [data.count(value) for value in range(256)])
    assert changes == sum(a >> 7 != b & 1 for a, b in pairwise(data))


@WAYS
@settings(max_examples=60)
@given(data=FEW_VALUES, cuts=st.lists(st.integers(0, 300), max_size=5), least=st.integers(2, 12))
def test_the_longest_run_is_found_also_across_strings(way, data, cuts, least):
    state = np.array([-1, 0])

    found = [int(way(health.longest_run)(part, least, state)) for part in parts(data, cuts)]

    runs = [(value, len(list(run))) for value, run in groupby(data)]
    longest = max((length for _, length in runs), default=0)
    assert (max(found, default=0) >= least) == (longest >= least)
    if longest >= least:
        assert max(found) == longest
    assert tuple(state) == (runs[-1] if runs else (-1, 0))


@WAYS
@settings(max_examples=60)
@given(data=FEW_VALUES, cuts=st.lists(st.integers(0, 300), max_size=5), window=st.integers(1, 40))
def test_the_proportion_of_a_windows_first_byte_is_found_also_across_strings(
    way, data, cuts, window
):
    state = np.zeros(3, np.int64)

    found = [int(way(health.most_in_window)(part, window, state)) for part in parts(data, cuts)]

    windows = [data[start : start + window] for start in range(0, len(data), window)]
    assert max(found, default=0) == max((each.count(each[0]) for each in windows), default=0)
