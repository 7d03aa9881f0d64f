"""Each kernel of the core beside a plain twin on unpacked bits or Python integers.

The sizes are small enough for interpreted kernels too: `test_core_kernels_without_jit` runs this
file again with the compiler switched off.
"""

import numpy as np
import pytest

from qkd_core.kernels import alignment, cascade, gf128, sifting
from qkd_core.kernels import sifting_words as words
from qkd_core.types.bits import pack, unpack

POLYNOMIAL = (1 << 128) | 0x87
PLAIN = sifting.family(sifting.Extraction.PLAIN)
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


def polynomial_twin(r: int, message: bytes, n_bits: int) -> int:
    cut = (message[i : i + 16] for i in range(0, len(message), 16))
    blocks = [int.from_bytes(block, "little") for block in cut] + [n_bits]
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


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 32, 100])
def test_polynomial_hash_by_powers(rng, n):
    r, message = words_of(rng, 2), rng.integers(0, 256, n, dtype=np.uint8)

    hashed = gf128.polynomial_hash(r, message, 8 * n + 3)

    assert element(hashed) == polynomial_twin(element(r), message.tobytes(), 8 * n + 3)


# ------------------------------------------------------------------------------------- sifting
@pytest.mark.parametrize("n", [0, *SIZES])
def test_planes_are_the_bits_of_the_values(rng, n):
    values = rng.integers(0, 16, n, dtype=np.uint8)

    for k, plane in enumerate(sifting.planes(values)):
        np.testing.assert_array_equal(plane, pack(values >> k & 1))


@pytest.mark.parametrize("n", [0, *SIZES])
def test_bits_by_mask(rng, n):
    bits, chosen = random_bits(rng, n), random_bits(rng, n)
    expected = pack(bits[chosen == 1])
    np.testing.assert_array_equal(PLAIN.extracted(pack(bits), pack(chosen)), expected)


def test_one_word_bit_by_bit(rng):
    for x, mask in (*words_of(rng, 20).reshape(-1, 2), words_of(rng, 2) & words_of(rng, 2)):
        bits, chosen = (unpack(np.array([word], np.uint64), 64) for word in (x, mask))
        count = int(chosen.sum())
        together = np.zeros(64, np.uint8)
        together[:count] = bits[chosen == 1]
        apart = np.zeros(64, np.uint8)
        apart[chosen == 1] = bits[:count]
        assert words.popcount(mask) == count
        assert words.compressed(x, mask) == pack(together)[0]
        assert words.expanded(x, mask) == pack(apart)[0]


@pytest.mark.parametrize("n", [0, *SIZES])
def test_sifting_by_masks_and_counting(rng, n):
    bit, basis, their_bit, their_basis = (random_bits(rng, n) for _ in range(4))
    intensity = rng.integers(0, 3, n, dtype=np.uint8)
    own = sifting.planes(bit | basis << 1 | intensity << 2)
    key = np.zeros(own.shape[1] + 1, np.uint64)

    counts = PLAIN.sift(
        *own[:2], pack(their_basis), *own[2:], pack(their_bit[their_basis == 1]), n, key
    )

    in_key, in_test = (basis | their_basis) == 0, (basis & their_basis) == 1
    expected = pack(bit[in_key])
    np.testing.assert_array_equal(key[: expected.size], expected)
    kinds = (in_key, in_test, in_test & (bit != their_bit))
    expected = [np.count_nonzero(kind & (intensity == k)) for kind in kinds for k in range(3)]
    assert counts.tolist() == expected


# ----------------------------------------------------------------------------------- alignment
@pytest.mark.parametrize("period_ps", [1000.0, 1367.989])
def test_arrivals_are_a_histogram_of_the_phase(rng, period_ps):
    time_ps = np.sort(rng.integers(-5000, 10**6, 300))

    counts, ordered = alignment.arrivals(time_ps, period_ps)

    phase = time_ps / period_ps % 1.0
    expected, _ = np.histogram(phase, alignment.PHASES, (0.0, 1.0))
    np.testing.assert_array_equal(counts, expected)
    assert ordered and not alignment.arrivals(time_ps[::-1].copy(), period_ps)[1]


@pytest.mark.parametrize("n_pulses", [1, 20, 1000])
def test_events_are_the_distinct_slots(rng, n_pulses):
    time_ps = np.sort(rng.integers(-5000, 60_000, 200))
    detector = rng.integers(0, 4, 200, dtype=np.uint8)
    slot, first, seen = np.empty(200, np.int64), *np.empty((2, 200), np.uint8)

    n = alignment.events(time_ps, detector, 1000.0, 0.25, n_pulses, slot, first, seen)

    at = np.floor(time_ps / 1000.0 - 0.25 + 0.5).astype(np.int64)
    inside = (at >= 0) & (at < n_pulses)
    distinct, start = np.unique(at[inside], return_index=True)
    np.testing.assert_array_equal(slot[:n], distinct)
    np.testing.assert_array_equal(first[:n], detector[inside][start])
    sets = np.bitwise_or.reduceat(np.uint8(1) << detector[inside], start)
    np.testing.assert_array_equal(seen[:n], sets)


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
