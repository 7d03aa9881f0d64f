"""Each kernel of the core beside a plain twin on unpacked bits or Python integers.

The sizes are small enough for interpreted kernels too: `test_core_kernels_without_jit` runs this
file again with the compiler switched off.
"""

import numpy as np
import pytest

from qkd_core.kernels import cascade, gf128, sifting
from qkd_core.kernels.toeplitz import toeplitz_hash, toeplitz_packed
from qkd_core.types.bits import pack, unpack

POLYNOMIAL = (1 << 128) | 0x87
SIZES = [1, 2, 63, 64, 65, 127, 128, 129, 200]


@pytest.fixture(autouse=True)
def wrapping_integers():
    """Interpreted kernels wrap around in numpy's scalars, which would warn."""
    with np.errstate(over="ignore"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(20140204)


def random_bits(rng, n):
    return rng.integers(0, 2, n, dtype=np.uint8)


# ---------------------------------------------------------------------------------- GF(2^128)
def times(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = a << 1, b >> 1
        if a >> 128:
            a ^= POLYNOMIAL
    return product


def element(words) -> int:
    return int(words[0]) | int(words[1]) << 64


def words_of(rng, n):
    return rng.integers(0, 2**64, n, dtype=np.uint64)


def polynomial_twin(r: int, message, n_bits: int) -> int:
    blocks = [element(message[i : i + 2]) for i in range(0, len(message), 2)] + [n_bits]
    hashed = 0
    for i, block in enumerate(blocks):
        power = 1
        for _ in range(len(blocks) - i):
            power = times(power, r)
        hashed ^= times(block, power)
    return hashed


def test_products_in_the_field(rng):
    for _ in range(20):
        a, b = words_of(rng, 2), words_of(rng, 2)
        assert element(gf128.multiply(a, b)) == times(element(a), element(b))


@pytest.mark.parametrize("n_blocks", [0, 1, 2, 7])
def test_polynomial_hash_by_powers(rng, n_blocks):
    r, message = words_of(rng, 2), words_of(rng, 2 * n_blocks)

    hashed = gf128.polynomial_hash(r, message, 128 * n_blocks - 5 if n_blocks else 0)

    expected = polynomial_twin(element(r), message, 128 * n_blocks - 5 if n_blocks else 0)
    assert element(hashed) == expected


# ------------------------------------------------------------------------------------ Toeplitz
@pytest.mark.parametrize("n", SIZES)
def test_packed_toeplitz_is_the_plain_one(rng, n):
    for n_out in {1, n // 2 or 1, max(1, n - 1), n}:
        seed, bits = random_bits(rng, n + n_out - 1), random_bits(rng, n)

        out = toeplitz_packed(pack(seed), n, pack(bits), n_out)

        assert out.size == (n_out + 63) // 64
        np.testing.assert_array_equal(unpack(out, n_out), toeplitz_hash(seed, bits, n_out))
        assert not unpack(out, 64 * out.size)[n_out:].any()


# ------------------------------------------------------------------------------------- sifting
def test_bits_by_mask(rng):
    for n in SIZES:
        bits, chosen = random_bits(rng, n), random_bits(rng, n)
        expected = bits[chosen == 1]
        np.testing.assert_array_equal(sifting.extracted(bits, chosen), pack(expected))


def test_tallies_by_counting(rng):
    basis, error = random_bits(rng, 500), random_bits(rng, 500)
    intensity = rng.integers(0, 3, 500, dtype=np.uint8)

    table = sifting.tallied(basis, intensity, error)

    for k in range(3):
        mine = intensity == k
        assert table[k, 0] == np.count_nonzero(mine & (basis == 0))
        assert table[k, 1] == np.count_nonzero(mine & (basis == 1))
        assert table[k, 2] == np.count_nonzero(mine & (basis == 1) & (error == 1))


# ------------------------------------------------------------------------------------- Cascade
def splitmix(seed: int):
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) % 2**64
        z = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        yield z ^ (z >> 31)


@pytest.mark.parametrize("n", SIZES)
def test_shuffle_is_fisher_yates(n):
    expected, draws = list(range(n)), splitmix(99)
    for i in range(n - 1, 0, -1):
        j = (next(draws) >> 32) * (i + 1) >> 32
        expected[i], expected[j] = expected[j], expected[i]

    order = cascade.shuffled(np.uint64(99), n)

    assert order.tolist() == expected
    np.testing.assert_array_equal(cascade.inverted(order)[order], np.arange(n))


@pytest.mark.parametrize("n", SIZES)
def test_gathering_flipping_and_prefixes(rng, n):
    bits, order = random_bits(rng, n), cascade.shuffled(np.uint64(5), n)

    np.testing.assert_array_equal(cascade.gathered(pack(bits), order), pack(bits[order]))
    prefixes = np.bitwise_xor.accumulate(bits)
    np.testing.assert_array_equal(unpack(cascade.prefix_parities(pack(bits)), n), prefixes)
    positions = order[: n // 2]
    words = pack(bits)
    cascade.toggle_bits(words, positions)
    bits[positions] ^= 1
    np.testing.assert_array_equal(unpack(words, n), bits)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("block", [1, 3, 8, 64, 100])
def test_prefixes_that_start_at_blocks_and_parities_of_intervals(rng, n, block):
    bits = random_bits(rng, n)
    whole = cascade.prefix_parities(pack(bits))
    apart = whole.copy()

    cascade.start_at_blocks(apart, n, block)

    expected = np.concatenate(
        [np.bitwise_xor.accumulate(bits[s : s + block]) for s in range(0, n, block)]
    )
    np.testing.assert_array_equal(unpack(apart, n), expected)
    starts = rng.integers(0, n, 70)
    stops = starts + 1 + rng.integers(0, n - starts)
    parities = [int(bits[a:b].sum()) & 1 for a, b in zip(starts, stops, strict=True)]
    got = cascade.interval_parities(whole, starts, stops)
    assert unpack(got, starts.size).tolist() == parities


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("block", [1, 3, 64, 100])
def test_flips_are_prefix_parities_of_what_was_flipped(rng, n, block):
    positions = np.flatnonzero(random_bits(rng, n)).astype(np.uint32)
    flipped = np.zeros((n + 63) // 64, np.uint64)
    odd = np.zeros(-(-n // block), np.uint8)

    cascade.flip(positions, n, block, flipped, odd)

    mask = np.zeros(n, np.uint8)
    mask[positions] = 1
    blocks = [mask[s : s + block] for s in range(0, n, block)]
    expected = np.concatenate([np.bitwise_xor.accumulate(b) for b in blocks])
    np.testing.assert_array_equal(unpack(flipped, n), expected)
    assert odd.tolist() == [int(b.sum()) & 1 for b in blocks]
    known_even = np.zeros_like(flipped)
    np.testing.assert_array_equal(cascade.odd_blocks(n, block, known_even, flipped), odd)


def test_narrowing_goes_where_the_error_is_as_far_as_boundaries_are_known(rng):
    n, block = 200, 64
    error = np.zeros(n, np.uint8)
    error[[5, 100, 199]] = 1  # one in each of three blocks, none in the second
    difference = cascade.prefix_parities(pack(error))
    cascade.start_at_blocks(difference, n, block)
    none = np.zeros_like(difference)
    starts, stops = np.array([0, 64, 192]), np.array([64, 128, 200])

    cascade.narrow(starts, stops, block, none, difference, none)
    assert (starts.tolist(), stops.tolist()) == ([0, 64, 192], [64, 128, 200])

    cascade.narrow(starts, stops, block, ~none, difference, none)
    assert starts.tolist() == [5, 100, 199]


def test_recorded_differences_add_up_from_the_start_of_the_block():
    known, difference = np.zeros(2, np.uint64), np.zeros(2, np.uint64)
    starts, stops = np.array([0, 64, 8]), np.array([8, 72, 16])

    cascade.record(starts, stops, np.array([0b111], np.uint64), 64, known, difference)

    assert np.flatnonzero(unpack(known, 128)).tolist() == [7, 15, 71]
    assert np.flatnonzero(unpack(difference, 128)).tolist() == [7, 71]
