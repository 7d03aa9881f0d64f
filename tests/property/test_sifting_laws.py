"""Sifting on packed words, each way that this CPU runs, beside masks and counts of bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.kernels import sifting
from qkd_core.types.bits import pack

STRIP_EVENTS = 64 * 256  # that are read twice from the nearest cache
EDGES = [0, 1, 63, 64, 65, 128, 129, STRIP_EVENTS - 1, STRIP_EVENTS, STRIP_EVENTS + 1, 40_000]

every_way = pytest.mark.parametrize("way", sifting.runnable(), ids=lambda way: way.name)


def drawn(seed, n, p_test):
    rng = np.random.default_rng(seed)
    basis, their_basis = ((rng.random(n) < p_test).astype(np.uint8) for _ in range(2))
    bit, their_bit = rng.integers(0, 2, (2, n), dtype=np.uint8)
    return bit, basis, their_bit, their_basis, rng.integers(0, 3, n, dtype=np.uint8)


def check(way, seed, n, p_test):
    """Words are kept to their end: ``key`` begins full of ones."""
    bit, basis, their_bit, their_basis, intensity = drawn(seed, n, p_test)
    own = sifting.planes(bit | basis << 1 | intensity << 2)
    key = np.full(own.shape[1] + 1, 2**64 - 1, np.uint64)
    their_test = pack(their_bit[their_basis == 1])

    counts = sifting.family(way).sift(*own[:2], pack(their_basis), *own[2:], their_test, n, key)

    in_key, in_test = (basis | their_basis) == 0, (basis & their_basis) == 1
    expected = pack(bit[in_key])
    np.testing.assert_array_equal(key[: expected.size], expected)
    kinds = (in_key, in_test, in_test & (bit != their_bit))
    expected = [np.count_nonzero(kind & (intensity == k)) for kind in kinds for k in range(3)]
    assert counts.tolist() == expected
    assert counts.sum() == np.count_nonzero(basis == their_basis) + np.count_nonzero(kinds[2])


def test_the_preferred_way_runs():
    assert sifting.preferred() in sifting.runnable()
    assert sifting.sift is sifting.family(sifting.preferred()).sift


def test_a_cpu_whose_extraction_is_microcode_takes_the_plain_way(monkeypatch):
    monkeypatch.setattr(sifting.llvm, "get_host_cpu_name", lambda: "znver2")
    assert sifting.preferred() is sifting.Extraction.PLAIN


@every_way
@pytest.mark.parametrize("n", EDGES)
@pytest.mark.parametrize("p_test", [0.0, 0.1, 0.5, 1.0])
def test_key_bits_and_counts_at_the_edges(way, n, p_test):
    check(way, n, n, p_test)


@every_way
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 1000), p_test=st.floats(0, 1))
def test_key_bits_and_counts_of_any_events(way, seed, n, p_test):
    check(way, seed, n, p_test)


@every_way
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 1000), p=st.floats(0, 1), frozen=st.booleans())
def test_extracted_bits_are_those_under_the_mask(way, seed, n, p, frozen):
    rng = np.random.default_rng(seed)
    bits, mask = rng.integers(0, 2, n, dtype=np.uint8), (rng.random(n) < p).astype(np.uint8)
    packed = pack(bits), pack(mask)
    for words in packed:
        words.flags.writeable = not frozen
    np.testing.assert_array_equal(sifting.family(way).extracted(*packed), pack(bits[mask == 1]))
