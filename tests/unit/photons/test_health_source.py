"""How soon a source of randomness that breaks is noticed, and that nothing of it is used."""

import os
import sys
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from qkd_core.errors import EntropyFailed
from qkd_core.photons.health_cutoffs import WINDOW
from qkd_core.photons.health_source import CENSUS_BYTES, PROPORTION, REPETITIONS, WatchedSource

sys.path.insert(0, str(Path(__file__).parent))
from health_vectors import biased, markov, periodic, without_some_bytes

sys.path.pop(0)

SMALL = 32  # bytes a draw
CENSUS = {"monobit", "runs", "min-entropy"}


class Breaking:
    """Good bytes, then ``broken``; counts what is drawn."""

    def __init__(self, broken: bytes, good: int) -> None:
        self._bytes = np.random.default_rng(8).bytes(good) + broken
        self.drawn = 0

    def __call__(self, n):
        start, self.drawn = self.drawn, self.drawn + n
        return self._bytes[start : self.drawn]


def used_until_caught(broken: bytes, n: int, good: int = 3 * CENSUS_BYTES) -> tuple[int, str]:
    """How many broken bytes left the source, in draws of ``n``, and which test stopped it."""
    source = Breaking(broken, good)
    watched = WatchedSource(source)
    used = CENSUS_BYTES  # thrown away at the start, and good
    with pytest.raises(EntropyFailed) as caught:
        while used < good + len(broken):
            used += len(watched(n))
    return max(0, used - good), caught.value.test


def test_a_good_source_goes_on_and_gives_what_it_draws():
    """16 MiB in draws of all sizes; false alarm below 2^-38."""
    given = Breaking(b"", 1 << 24)
    watched = WatchedSource(given)
    rng = np.random.default_rng(9)
    out = b"".join(watched(int(n)) for n in rng.integers(0, 5_000, 6_000))
    assert given.drawn == len(out) + CENSUS_BYTES < 1 << 24
    assert out == given._bytes[CENSUS_BYTES : given.drawn]


@pytest.mark.parametrize(
    "broken",
    [
        bytes,
        lambda n: biased(np.random.default_rng(10), n),
        lambda n: markov(np.random.default_rng(11), n),
        lambda n: periodic(np.random.default_rng(12), n),
    ],
    ids=["stuck", "biased", "correlated", "repeating"],
)
def test_a_source_that_is_broken_from_the_start_gives_nothing(broken):
    with pytest.raises(EntropyFailed):
        WatchedSource(broken)


@pytest.mark.parametrize("n", [1, 5, SMALL, 5_000])
def test_a_stuck_source_is_caught_within_nine_bytes(n):
    used, test = used_until_caught(b"\xa7" * 20_000, n)

    assert used < REPETITIONS == 9
    assert test == "repetition count"


@pytest.mark.parametrize("period", [2, 3, 5, 7])
def test_a_source_that_repeats_a_few_bytes_is_caught_within_two_windows(period):
    used, test = used_until_caught(bytes(range(period)) * 20_000, SMALL)

    assert used < 2 * WINDOW
    assert test == "adaptive proportion"
    assert PROPORTION <= WINDOW / 7


@pytest.mark.parametrize("n", [SMALL, 1_000, 1 << 16])
@pytest.mark.parametrize(
    ("broken", "tests"),
    [
        (lambda n: biased(np.random.default_rng(13), n), {"monobit"}),
        (lambda n: biased(np.random.default_rng(14), n, ones=0.52), {"monobit"}),
        (lambda n: markov(np.random.default_rng(15), n), {"runs"}),
        (lambda n: markov(np.random.default_rng(15), n, stay=0.48), {"runs"}),
        (lambda n: periodic(np.random.default_rng(16), n, period=37), CENSUS),
        (lambda n: periodic(np.random.default_rng(17), n, period=500), CENSUS),
        (lambda n: without_some_bytes(np.random.default_rng(18), n), {"min-entropy"}),
    ],
)
def test_a_bias_a_correlation_or_a_period_is_caught_within_two_censuses(broken, tests, n):
    """Each of these is missed with probability below 1e-3; the seeds are fixed."""
    used, found = used_until_caught(broken(1 << 18), n)

    assert used <= max(2 * CENSUS_BYTES, n)
    assert found in tests


def test_a_large_draw_is_judged_before_a_byte_of_it_is_used():
    used, _ = used_until_caught(biased(np.random.default_rng(18), 1 << 18), 1 << 17)

    assert used == 0


def test_a_source_that_gives_every_caller_the_same_bytes_is_stopped_at_the_start():
    """It is asked for all of them at once there; in small draws the first test is for later."""
    same = np.random.default_rng(19).bytes(SMALL)

    with pytest.raises(EntropyFailed):
        WatchedSource(lambda n: (same * (n // SMALL + 1))[:n])
    used, found = used_until_caught(same * 2_000, SMALL)

    assert used < 2 * CENSUS_BYTES
    assert found in CENSUS


def test_once_failed_the_source_gives_nothing_though_it_may_look_good_again():
    recovered = b"\0" * 100 + np.random.default_rng(19).bytes(10_000)
    source = Breaking(recovered, CENSUS_BYTES)
    watched = WatchedSource(source)
    said = []
    for n in (100, 1_000, 1_000):
        with pytest.raises(EntropyFailed) as caught:
            watched(n)
        said.append(str(caught.value))

    assert set(said) == {
        "the source of randomness fails the test repetition count: 100, the limit is 9;"
        " nothing is drawn from it any more"
    }
    assert source.drawn == CENSUS_BYTES + 100


def test_a_source_that_gives_fewer_bytes_than_asked_for_is_not_used():
    watched = WatchedSource(Breaking(b"", CENSUS_BYTES + 100))

    with pytest.raises(EntropyFailed, match="length: 100, the limit is 101"):
        watched(101)


def test_many_threads_draw_from_one_source():
    """False alarm below 2^-50."""
    watched = WatchedSource(os.urandom)
    drawn, size = [], 3_001

    def work():
        drawn.extend(watched(size) for _ in range(50))

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [len(each) for each in drawn] == [size] * 200
