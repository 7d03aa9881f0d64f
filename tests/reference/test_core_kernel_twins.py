"""Each kernel of the core beside a plain twin on unpacked bits or Python integers.

The sizes are small enough for interpreted kernels too: `test_core_kernels_without_jit` runs this
file again with the compiler switched off.
"""

import sys
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from qkd_core.kernels import alignment, gf128, sifting
from qkd_core.kernels import sifting_words as words
from qkd_core.kernels.cascade_permutation import ROWS, origin
from qkd_core.kernels.cascade_reference import FINISHED
from qkd_core.photons.reconciliation import cascade_slots
from qkd_core.photons.reconciliation.cascade_passes import passes
from qkd_core.photons.reconciliation.frames import cut
from qkd_core.types.bits import pack, unpack
from qkd_core.types.reconciliation import Method, Reconciliation

sys.path.insert(0, str(Path(__file__).parents[1] / "efficiency"))
from cascade_points import Post, both_ends, plan_for

sys.path.pop(0)

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
def cascade_twin(differs, orders, sizes):
    """The questions of Cascade, round by round: (pass, boundaries); from the truth, bit by bit.

    differs  list of 0 and 1: where the ends differ; all 0 at the end
    orders   of each pass, the bits in its order
    """
    known = []  # of each opened pass, the boundaries that were told
    while True:
        swept = [t for t in range(len(known)) if twin_odd(differs, orders[t], sizes[t])]
        if not swept and len(known) == len(orders):
            return
        if not swept:
            known.append(set())
            continue
        t = swept[0]
        errors, odd = [], twin_odd(differs, orders[t], sizes[t])
        while odd:
            wide = []
            for start, stop in odd:
                while stop - start > 1 and ((start + stop) // 2 - 1) in known[t]:
                    start, stop = twin_half(differs, orders[t], start, stop)
                if stop - start > 1:
                    wide.append((start, stop))
                else:
                    errors.append(orders[t][start])
            if wide:
                asked = [(start + stop) // 2 - 1 for start, stop in wide]
                yield t, sorted(asked)
                known[t].update(asked)
            odd = [twin_half(differs, orders[t], start, stop) for start, stop in wide]
        for bit in errors:
            differs[bit] ^= 1


def twin_odd(differs, order, size):
    blocks = [(start, min(len(order), start + size)) for start in range(0, len(order), size)]
    return [(s, e) for s, e in blocks if sum(differs[i] for i in order[s:e]) % 2]


def twin_half(differs, order, start, stop):
    middle = (start + stop) // 2
    return (start, middle) if sum(differs[i] for i in order[start:middle]) % 2 else (middle, stop)


@pytest.mark.parametrize(("variant", "qber"), [("fast4", 0.03), ("tight4", 0.02), ("tight4", 0.2)])
def test_cascade_asks_what_its_plain_twin_asks(rng, monkeypatch, variant, qber):
    n, errors_at = 4096, rng.random(4096) < qber
    keys = [random_bits(rng, n)]
    keys.append(keys[0] ^ errors_at)
    # the hash is made of intrinsics, and has its own tests
    monkeypatch.setattr(cascade_slots, "frame_hash", lambda _point, bits, _n: crc32(bits.tobytes()))
    how = Reconciliation(method=Method.CASCADE, variant=variant, frame_bits=n)
    alice, bob = both_ends([pack(key) for key in keys], n, plan_for(how, n, qber), bytes(24))
    post, asked = Post(), []
    while alice.open:
        alice.speak(post)
        bob.listen(post)
        if bob.open:
            bob.speak(post)
            words = np.frombuffer(post.bodies[0], "<u8")
            header = int(words[0])
            if header != FINISHED:
                boundaries = words[1:].view(np.uint16)[: header & 0xFFFFFF]
                asked.append((header >> 24, sorted(boundaries.tolist())))
            alice.listen(post)

    each = passes(cut(n, n), variant, qber, 0)
    orders = [list(range(n))]
    for t in range(each.number - 1):
        base = t * ROWS * (n // 64)
        orders.append(
            [
                int(origin(each.tables, np.uint64(base), np.uint64(n // 64), np.uint64(z)))
                for z in range(n)
            ]
        )
    differs = errors_at.astype(int).tolist()
    assert asked == list(cascade_twin(differs, orders, each.block_bits.tolist()))
    corrected = bob.corrector.key ^ pack(keys[0])
    np.testing.assert_array_equal(unpack(corrected, n), differs)
