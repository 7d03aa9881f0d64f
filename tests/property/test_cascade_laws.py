from queue import Queue
from threading import Thread

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qkd_core.errors import ReconciliationFailed
from qkd_core.photons.reconciliation.bisection import correct, pass_block_bits
from qkd_core.photons.verification import polynomial_hash_bytes
from qkd_core.types.bits import pack


def both_ends(alice, bob, qber, seed):
    """The flips that each end finds, and the number of parities; two threads, two queues."""
    to_alice, to_bob, out, counts = Queue(), Queue(), {}, []
    n = alice.size
    sizes = pass_block_bits(n, qber)

    def ask(parities, count):
        counts.append(count)
        to_bob.put((parities, count))
        return to_alice.get(timeout=20)

    def answer(parities, count):
        theirs, asked = to_bob.get(timeout=20)
        assert asked == count
        to_alice.put(parities ^ theirs)
        return parities ^ theirs

    def end(name, bits, disclose):
        out[name] = correct(pack(bits), n, sizes, seed, disclose)

    threads = [
        Thread(target=end, args=("alice", alice, ask)),
        Thread(target=end, args=("bob", bob, answer)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return out["alice"], out["bob"], counts


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=400),
    st.data(),
    st.floats(0.0, 0.6),
    st.integers(0, 2**64 - 1),
)
def test_any_error_pattern_is_corrected_or_the_verification_hash_tells(key, data, qber, seed):
    alice = np.frombuffer(key, np.uint8) & 1
    pattern = np.frombuffer(
        data.draw(st.binary(min_size=alice.size, max_size=alice.size)), np.uint8
    )
    bob = alice ^ (pattern < data.draw(st.integers(0, 256))).astype(np.uint8)

    at_alice, at_bob, counts = both_ends(alice, bob, qber, seed)

    np.testing.assert_array_equal(at_alice, at_bob)
    corrected = pack(bob) ^ at_bob
    equal = np.array_equal(corrected, pack(alice))
    hash_key = (seed | 1).to_bytes(16, "little")
    hashes = [polynomial_hash_bytes(hash_key, w.tobytes()) for w in (pack(alice), corrected)]
    assert (hashes[0] == hashes[1]) == equal
    assert sum(counts) <= 8 * (2 * alice.size + 1)  # each boundary of each of 8 passes once


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500), st.integers(0, 2**64 - 1), st.data())
@example(1, 0, None)
def test_a_single_error_is_always_found(n, seed, data):
    at = 0 if data is None else data.draw(st.integers(0, n - 1))
    error = np.zeros(n, np.uint8)
    error[at] = 1

    # the parities of the difference are the differences of the parities
    flips = correct(pack(error), n, pass_block_bits(n, 0.03), seed, lambda own, count: own)

    np.testing.assert_array_equal(flips, pack(error))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2000), st.floats(0, 0.3), st.randoms(use_true_random=False))
def test_false_answers_end_the_search(n, qber, random):
    def lie(own, count):
        return pack(np.array([random.getrandbits(1) for _ in range(count)], np.uint8))

    try:
        correct(pack(np.zeros(n, np.uint8)), n, pass_block_bits(n, qber), 7, lie)
    except ReconciliationFailed as error:
        assert "contradict" in str(error)


@pytest.mark.parametrize("qber", [0.01, 0.02, 0.03, 0.05])
def test_efficiency_and_failures_stay_within_what_the_planner_counts_on(qber):
    """20 frames of 65536 bits. With a failure rate of 1e-2 two or more fail with 1.7e-2."""
    n, failures, efficiency = 65536, 0, []
    rng = np.random.default_rng(int(qber * 1000))
    for seed in range(20):
        error = (rng.random(n) < qber).astype(np.uint8)
        counts = []

        def disclose(own, count, counts=counts):
            counts.append(count)
            return own

        flips = correct(pack(error), n, pass_block_bits(n, qber), seed, disclose)
        failures += not np.array_equal(flips, pack(error))
        seen = error.mean()
        entropy = -seen * np.log2(seen) - (1 - seen) * np.log2(1 - seen)
        efficiency.append(sum(counts) / n / entropy)

    assert failures <= 1
    assert max(efficiency) <= 1.06 + 5 / n**0.5
