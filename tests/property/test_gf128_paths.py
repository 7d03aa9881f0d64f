"""The polynomial hash, on every path that this CPU runs, beside Python's integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.kernels import cpu
from qkd_core.kernels.gf128_hash import family, polynomial_hash

POLYNOMIAL = (1 << 128) | 0x87
GROUP = 1024  # bytes under one reduction
EDGES = [
    *range(50),
    63,
    64,
    65,
    *(k * GROUP + d for k in (1, 2, 3) for d in (-17, -16, -1, 0, 1, 16, 47)),
]
elements = st.binary(min_size=16, max_size=16)

every_path = pytest.mark.parametrize("path", cpu.runnable(), ids=lambda path: path.name)


def times(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = a << 1, b >> 1
        if a >> 128:
            a ^= POLYNOMIAL
    return product


def horner(key: bytes, message: bytes, n_bits: int) -> bytes:
    r, hashed = int.from_bytes(key, "little"), 0
    for i in range(0, len(message), 16):
        hashed = times(hashed ^ int.from_bytes(message[i : i + 16], "little"), r)
    return times(hashed ^ n_bits, r).to_bytes(16, "little")


def on(path, key: bytes, message: bytes, n_bits: int | None = None) -> bytes:
    n_bits = 8 * len(message) if n_bits is None else n_bits
    arrays = np.frombuffer(key, "<u8"), np.frombuffer(message, np.uint8)
    return family(path)(*arrays, n_bits).tobytes()


def test_the_product_uses_the_widest_path():
    assert cpu.path() is cpu.runnable()[0]
    assert polynomial_hash is family(cpu.path())


@every_path
@pytest.mark.parametrize("n", EDGES)
def test_every_path_gives_the_value_of_the_definition(path, n):
    rng = np.random.default_rng(n)
    key, message = rng.bytes(16), rng.bytes(n)
    assert on(path, key, message) == horner(key, message, 8 * n)


@every_path
@pytest.mark.parametrize(
    "key", [bytes(16), b"\x01" + bytes(15), b"\xff" * 16], ids=["0", "1", "-1"]
)
def test_keys_and_messages_with_all_bits_alike(path, key):
    for message in (bytes(3 * GROUP), b"\xff" * (3 * GROUP + 5)):
        assert on(path, key, message) == horner(key, message, 8 * len(message))


@every_path
@settings(max_examples=60, deadline=None)
@given(key=elements, message=st.binary(max_size=200), n_bits=st.integers(0, 2**63 - 1))
def test_any_message_and_any_length_block(path, key, message, n_bits):
    assert on(path, key, message, n_bits) == horner(key, message, n_bits)


@every_path
@settings(max_examples=40, deadline=None)
@given(
    key=elements, seed=st.integers(0, 2**32), n=st.integers(0, 5 * GROUP), offset=st.integers(0, 7)
)
def test_a_message_may_begin_at_any_address(path, key, seed, n, offset):
    store = np.random.default_rng(seed).integers(0, 256, n + 8, dtype=np.uint8)
    message = store[offset : offset + n]
    hashed = family(path)(np.frombuffer(key, "<u8"), message, 8 * n).tobytes()
    plain = family(cpu.Path.PLAIN)(np.frombuffer(key, "<u8"), message.copy(), 8 * n).tobytes()
    assert hashed == plain


@every_path
@settings(max_examples=40, deadline=None)
@given(key=elements, seed=st.integers(0, 2**32), n=st.integers(0, 4 * GROUP))
def test_the_hash_is_linear_in_the_message_but_for_the_length(path, key, seed, n):
    a, b = np.random.default_rng(seed).integers(0, 256, (2, n), dtype=np.uint8)
    parts = [on(path, key, m.tobytes(), 0) for m in (a ^ b, a, b)]
    total = np.bitwise_xor.reduce([np.frombuffer(part, np.uint8) for part in parts])
    assert not total.any()
