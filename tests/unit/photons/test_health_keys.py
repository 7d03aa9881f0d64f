"""Keys that no uniform one looks like are refused; that others are secret is not shown here."""

import hmac
import sys
from pathlib import Path

import numpy as np
import pytest

from qkd_core.errors import BlockDiscarded, KeyNotRandom
from qkd_core.photons.health_census import Census
from qkd_core.photons.health_keys import FALSE_ALARM, SHARE, require_random
from qkd_core.types.blocks import SecretKey
from qkd_core.types.ids import BlockId

sys.path.insert(0, str(Path(__file__).parent))
from health_vectors import (
    biased,
    half_stuck_for_a_while,
    markov,
    periodic,
    stuck_for_a_while,
    uniform,
    without_some_bytes,
)

sys.path.pop(0)


def key_of(data: bytes) -> SecretKey:
    words = np.frombuffer(data[: len(data) // 8 * 8], "<u8").copy()
    return SecretKey(BlockId(1), words, 64 * words.size)


def failed_test(data: bytes) -> str:
    with pytest.raises(KeyNotRandom) as caught:
        require_random(key_of(data))
    return caught.value.test


def test_uniform_keys_of_all_lengths_pass():
    """1,500 keys of up to 400 kbit; false alarm below 2e-15."""
    rng = np.random.default_rng(1)
    for n_words in (0, 1, 2, 10, 100, 1_000, 6_250):
        for _ in range(200):
            require_random(key_of(uniform(rng, 8 * n_words)))
    for n_words in range(100):
        require_random(key_of(uniform(rng, 8 * n_words)))


def test_a_long_uniform_key_passes():
    """8 MiB; false alarm 9e-19."""
    require_random(key_of(uniform(np.random.default_rng(2), 1 << 23)))


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (biased, "monobit"),
        (lambda rng: biased(rng, ones=0.52), "monobit"),
        (markov, "runs"),
        (lambda rng: markov(rng, stay=0.48), "runs"),
        (without_some_bytes, "min-entropy"),
        (stuck_for_a_while, "repetition count"),
        (half_stuck_for_a_while, "adaptive proportion"),
        (lambda _: bytes(1 << 12), "monobit"),
        (lambda _: b"\xff" * 8, "monobit"),
        (lambda _: b"\x33" * (1 << 12), "min-entropy"),
        (lambda _: b"\x55" * (1 << 12), "runs"),
    ],
)
def test_broken_keys_are_refused_and_the_test_that_found_it_is_named(broken, test):
    """64 KiB; each of these is missed with probability below 1e-9."""
    assert failed_test(broken(np.random.default_rng(3))) == test


@pytest.mark.parametrize("period", [1, 2, 37, 64, 100, 1_000])
def test_short_periods_are_refused(period):
    """64 KiB; 20 periods of each length."""
    rng = np.random.default_rng(21)
    for _ in range(20):
        failed_test(periodic(rng, period=period))


def test_a_refused_key_is_wiped_and_told_by_numbers_only():
    key = key_of(bytes(range(64)) * 64)

    with pytest.raises(BlockDiscarded) as caught:
        require_random(key)

    assert not key.bits.any()
    assert str(caught.value) == "the key fails the test monobit: 20480, the limit is 17232"
    assert caught.value.value > caught.value.limit


def test_a_key_that_passes_is_left_as_it_is():
    key = key_of(uniform(np.random.default_rng(4)))
    before = key.bits.copy()

    require_random(key)

    np.testing.assert_array_equal(key.bits, before)


def test_false_alarms_of_the_census_are_not_more_frequent_than_stated():
    """At 5 % a test in 3,000 strings: at most 450 are expected; 6 deviations more: 1e-9."""
    rng = np.random.default_rng(5)
    n, alpha = 3_000, 0.05
    failing = 0
    for _ in range(n):
        census = Census()
        census.add(np.frombuffer(rng.bytes(1_000), np.uint8))
        failing += census.failing(alpha) is not None
    most = 3 * alpha * n
    assert 0 < failing < most + 6 * most**0.5


def test_all_tests_together_spend_the_stated_false_alarm():
    assert 5 * SHARE <= FALSE_ALARM < 1e-18


@pytest.mark.parametrize(
    "weak",
    [
        lambda: b"".join(hmac.digest(b"password", b"%d" % i, "sha256") for i in range(2_048)),
        lambda: periodic(np.random.default_rng(7), period=1 << 15),
    ],
    ids=["the output of a cipher with a known key", "a long period"],
)
def test_health_tests_prove_nothing_these_pass(weak):
    """64 KiB that are no key at all."""
    require_random(key_of(weak()))
