"""The hash of privacy amplification on every path that this CPU runs, beside Python's integers."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from qkd_core.kernels import additive_fft, cpu
from qkd_core.kernels.carryless import compile_for, marker
from qkd_core.kernels.fft_product import PER_PATH, Points
from qkd_core.kernels.fft_product import product as fft_product
from qkd_core.kernels.toeplitz_product import family, points_for, toeplitz_product
from qkd_core.types.bits import n_words

POLYNOMIAL = (1 << 64) | 0x1B
PATHS = pytest.mark.parametrize("path", cpu.runnable(), ids=lambda path: path.name)


def carryless(a: int, b: int) -> int:
    product = 0
    for shift, bit in enumerate(reversed(f"{b:b}")):
        if bit == "1":
            product ^= a << shift
    return product


def in_field(a: int, b: int) -> int:
    product = carryless(a, b)
    while product >> 64:
        product ^= POLYNOMIAL << product.bit_length() - 65
    return product


def as_integer(array) -> int:
    return int.from_bytes(array.tobytes(), "little")


def as_words(number: int, n_bits: int):
    return np.frombuffer(number.to_bytes(8 * n_words(n_bits), "little"), np.uint64)


def hashed_twin(seed: int, n: int, bits: int, n_out: int) -> int:
    m = n - n_out
    first = bits & ((1 << m) - 1)
    added = carryless(seed, first) >> (m - 1) if m else 0
    return (added ^ bits >> m) & ((1 << n_out) - 1)


def random_integer(rng, n_bits: int) -> int:
    return int.from_bytes(rng.bytes(n_bits // 8 + 1), "little") & ((1 << n_bits) - 1)


SIZES = [
    *[(n, n_out) for n in (1, 2, 63, 64, 65, 127, 128, 129) for n_out in {1, (n + 1) // 2, n}],
    (1000, 500),
    (2048, 1024),  # fills 64 + 32 points
    (2049, 1024),
    (4097, 4000),
    (4097, 1),
    (8000, 4000),  # 256 points, fewer than the product has
    (8192, 8191),
    (20_001, 10_007),
    (32_768, 20_000),
    (70_000, 65_537),
    (100_003, 30_011),
]


@PATHS
@pytest.mark.parametrize(("n", "n_out"), SIZES)
def test_hash_is_the_window_of_a_product_of_integers(path, n, n_out):
    rng = np.random.default_rng(n + n_out)
    seed, bits = random_integer(rng, n - 1), random_integer(rng, n)

    out = family(path)(as_words(seed, n - 1), n, as_words(bits, n), n_out)

    assert out.size == n_words(n_out)
    assert as_integer(out) == hashed_twin(seed, n, bits, n_out)


@PATHS
@pytest.mark.parametrize("levels", [6, 7, 8, 9, 11])
@pytest.mark.parametrize("more", [False, True])
def test_product_that_fills_its_points(path, levels, more):
    family(path)
    points = Points(levels, more)
    rng = np.random.default_rng(levels)
    for n_a in (points.n // 2, points.n - 5):
        a = rng.integers(0, 2**32, n_a, dtype=np.uint32)
        b = rng.integers(0, 2**32, points.n - n_a, dtype=np.uint32)

        assert as_integer(fft_product(path, a, b, points)) == carryless(
            as_integer(a), as_integer(b)
        )


@PATHS
def test_long_hashes_agree_with_the_widest_path_and_single_bits_with_the_sum(path):
    n, n_out = 1_000_000, 500_000
    rng = np.random.default_rng(5)
    seed = rng.integers(0, 2**64, n_words(n - 1), dtype=np.uint64)
    bits = rng.integers(0, 2**64, n_words(n), dtype=np.uint64)
    seed[-1] &= np.uint64((1 << (n - 1) % 64) - 1)

    out = family(path)(seed, n, bits, n_out)

    np.testing.assert_array_equal(out, toeplitz_product(seed, n, bits, n_out))
    seed_bits, key = (np.unpackbits(w.view(np.uint8), bitorder="little") for w in (seed, bits))
    hashed, m = np.unpackbits(out.view(np.uint8), bitorder="little"), n - n_out
    for i in (0, 1, 63, 64, n_out // 2, n_out - 1):
        row = seed_bits[i : i + m][::-1]
        assert hashed[i] == (key[m + i] + np.count_nonzero(row & key[:m])) % 2


@pytest.mark.parametrize(
    ("n_a", "n_b", "points"),
    [
        (31_250, 15_625, Points(15, True)),  # 1e6 bits, half of them secret
        (65_000, 32_500, Points(16, False)),  # reduced: more coefficients than points
        (3_125_000, 1_562_500, Points(22, False)),  # 1e8 bits
    ],
)
def test_points_are_no_more_than_needed(n_a, n_b, points):
    assert points_for(n_a, n_b, n_b - 2) == points


def test_basis_is_one_of_cantor():
    basis = [int(b) for b in additive_fft.BASIS]
    assert basis[0] == 1
    for lower, b in pairwise(basis):
        assert in_field(b, b) ^ b == lower


@PATHS
def test_products_in_the_field(path):
    compile_for(path, PER_PATH)
    rng = np.random.default_rng(9)
    edges = [0, 1, 2, 0x1B, 1 << 63, 2**64 - 1, 0xAAAAAAAAAAAAAAAA, 0x5555555555555555]
    a = np.array([x for x in edges for _ in edges] + list(rng.integers(0, 2**63, 64)), np.uint64)
    b = np.array([y for _ in edges for y in edges] + list(rng.integers(0, 2**63, 64)), np.uint64)
    expected = [in_field(int(x), int(y)) for x, y in zip(a, b, strict=True)]

    additive_fft.multiply_values(marker(path), a, b)

    assert a.tolist() == expected


def test_a_path_that_the_cpu_lacks_is_refused_before_it_is_compiled():
    for path in set(cpu.Path) - set(cpu.runnable()):
        with pytest.raises(ValueError, match=f"does not run {path.name}"):
            family(path)


def test_read_only_keys_are_accepted_and_other_types_are_refused():
    words = np.ones(4, np.uint64)
    words.flags.writeable = False
    assert toeplitz_product(words, 200, words, 64).shape == (1,)
    with pytest.raises(TypeError):
        toeplitz_product(words, 200, words.astype(np.float64), 64)


SAID = """
import numpy as np
from qkd_core.kernels import cpu, toeplitz_product as hashing
n = 3000
words = np.arange(1, 48, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
words[-1] &= np.uint64((1 << (n - 1) % 64) - 1)
print(cpu.path().name, *hashing.toeplitz_product(words, n, words, 128))
"""


@pytest.mark.parametrize(("features", "path"), [("", "PLAIN"), ("+sse4.1,+pclmul", "PCLMUL")])
def test_a_process_that_may_not_use_an_instruction_hashes_alike(features, path):
    run = subprocess.run(
        [sys.executable, "-c", SAID],
        env={**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    n = 3000
    words = np.arange(1, 48, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words[-1] &= np.uint64((1 << (n - 1) % 64) - 1)
    number = as_integer(words)
    twin = hashed_twin(number, n, number, 128)
    assert run.stdout.split() == [path, *map(str, as_words(twin, 128))]
