from math import comb

import numpy as np
import pytest

from qkd_core.kernels.cascade_permutation import (
    ROWS,
    draw_tables,
    origin,
    permute,
    place,
    transpose,
)
from qkd_core.types.bits import pack, unpack


def drawn(seed, words, n_tables=1):
    tables = np.zeros(n_tables * ROWS * words, np.uint16)
    draw_tables(np.uint64(seed), words, n_tables, tables)
    return tables


def mapping(tables, words):
    """Where each bit of a frame goes, by permuting the binary digits of its number."""
    n = 64 * words
    out, scratch = np.zeros(words, np.uint64), np.zeros(words + 64, np.uint64)
    source = np.zeros(n, np.int64)
    for digit in range(n.bit_length()):
        plane = pack((np.arange(n) >> digit & 1).astype(np.uint8))
        permute(plane, 0, words, tables, 0, out, scratch)
        source |= unpack(out, n).astype(np.int64) << digit
    to = np.empty(n, np.int64)
    to[source] = np.arange(n)
    return to


@pytest.mark.parametrize("words", [64, 128, 1024])
def test_the_two_maps_are_the_permutation_and_its_inverse(words):
    tables = drawn(3, words)
    rng = np.random.default_rng(words)
    frames = rng.integers(0, 2**64, 3 * words, dtype=np.uint64)
    out, scratch = np.zeros(words, np.uint64), np.zeros(words + 64, np.uint64)

    permute(frames, words, words, tables, 0, out, scratch)

    to = mapping(tables, words)
    assert np.unique(to).size == 64 * words
    tables_at, size = np.uint64(0), np.uint64(words)
    every = np.arange(64 * words, dtype=np.uint64)
    assert [place(tables, tables_at, size, z) for z in every] == to.tolist()
    bits = unpack(frames[words : 2 * words], 64 * words)
    np.testing.assert_array_equal(unpack(out, 64 * words)[to], bits)
    back = [origin(tables, tables_at, size, np.uint64(z)) for z in to]
    assert back == list(range(64 * words))


def test_transposition_changes_rows_and_columns_of_one_matrix_only():
    words = np.random.default_rng(1).integers(0, 2**64, 200, dtype=np.uint64)
    before = words.copy()

    transpose(words, 70)

    square = np.array([unpack(before[70 + r : 71 + r], 64) for r in range(64)])
    after = np.array([unpack(words[70 + r : 71 + r], 64) for r in range(64)])
    np.testing.assert_array_equal(after, square.T)
    np.testing.assert_array_equal(words[:70], before[:70])
    np.testing.assert_array_equal(words[134:], before[134:])


def test_tables_of_a_seed_are_its_own():
    first, second = drawn(1, 64, n_tables=2).reshape(2, -1)

    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(drawn(1, 64), first)
    assert not np.array_equal(drawn(2, 64), first)


def hypergeometric(blocks, size, chosen):
    """Of ``chosen`` bits of one block, the law of how many fall into one block of another pass."""
    n = blocks * size
    return np.array(
        [comb(chosen, k) * comb(n - chosen, size - k) / comb(n, size) for k in range(chosen + 1)]
    )


@pytest.mark.parametrize(("first", "second"), [(32, 128), (8, 32), (64, 512), (128, 8192)])
def test_bits_of_a_first_block_meet_in_second_blocks_as_after_a_random_permutation(first, second):
    """Over all pairs of blocks of 40 permutations, how often k bits of the one are in the other.

    The counts are compared with the hypergeometric law by pairs of bits that meet, whose mean over
    blocks has a standard error estimated from the 40 permutations (which are independent). Limit: 5
    standard errors of a Student law with 39 degrees of freedom, false alarm 1.3e-5 a case; and
    likewise for triples.
    """
    words, pairs, triples = 256, [], []
    n = 64 * words
    for seed in range(40):
        to = mapping(drawn(seed, words), words)
        counts = np.zeros((n // first, n // second), np.int64)
        np.add.at(counts, (np.arange(n) // first, to // second), 1)
        pairs.append((counts * (counts - 1) // 2).sum())
        triples.append((counts * (counts - 1) * (counts - 2) // 6).sum())
    law = hypergeometric(n // second, second, first)
    k = np.arange(law.size)
    cells = (n // first) * (n // second)
    for seen, expected in (
        (pairs, cells * (law * k * (k - 1) / 2).sum()),
        (triples, cells * (law * k * (k - 1) * (k - 2) / 6).sum()),
    ):
        error = max(np.std(seen, ddof=1), 1.0) / len(seen) ** 0.5
        assert abs(np.mean(seen) - expected) < 5 * error, (seen, expected)


@pytest.mark.parametrize("distance", [1, 7, 64, 4096])
def test_two_bits_at_any_distance_land_apart_like_random_ones(distance):
    """The pairs at one distance that share a block of 128 bits, and of 4096, over 40 permutations.

    A random permutation lets (size - 1) / (n - 1) of them. 5 standard errors, from the spread
    among permutations: false alarm 1.3e-5 a case.
    """
    words = 256
    n = 64 * words
    for size in (128, 4096):
        shares = []
        for seed in range(40):
            block = mapping(drawn(1000 + seed, words), words) // size
            shares.append(np.mean(block[distance:] == block[:-distance]))
        error = np.std(shares, ddof=1) / len(shares) ** 0.5
        assert abs(np.mean(shares) - (size - 1) / (n - 1)) < 5 * error
