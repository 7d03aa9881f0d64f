"""STAGE=sift: key bits and tallies from packed events, beside numpy and beside mere reading."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit
from rows import Compared, Goal, Row
from thread_time import interleaved

from qkd_core.kernels import cpu, sifting
from qkd_core.kernels.signatures import WORD, WORDS_IN
from qkd_core.types.bits import unpack

EVENTS = 1 << 26  # 8 MiB a plane: five do not fit into a cache
EVENTS_NUMPY = 1 << 22
NUMPY, READING = "numpy masks", "reading the planes"
GOALS = {NUMPY: Goal(">= 150"), READING: Goal(None, ">= 0.8")}


@njit(WORD(WORDS_IN, WORDS_IN, WORDS_IN, WORDS_IN, WORDS_IN), nogil=True)
def read(a, b, c, d, e):
    """The least that sifting can do: load every word once."""
    total = np.uint64(0)
    for i in range(a.size):
        total += a[i] ^ b[i] ^ c[i] ^ d[i] ^ e[i]
    return total


def measure(folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    say(f"{EVENTS:,} events")
    *planes, their_test = events()
    key = np.empty(planes[0].size + 1, np.uint64)
    few = [unpack(plane, EVENTS_NUMPY) for plane in planes]
    few_test = unpack(their_test, int(np.count_nonzero(few[2])))
    expected = with_masks(*few, few_test)
    _agree(planes, their_test, expected)
    seconds = interleaved(
        {
            "sift": lambda: sifting.sift(*planes, their_test, EVENTS, key),
            NUMPY: lambda: with_masks(*few, few_test),
            READING: lambda: read(*planes),
        }
    )
    rate = {name: EVENTS / 1e9 / taken for name, taken in seconds.items()}
    rate[NUMPY] *= EVENTS_NUMPY / EVENTS
    rows = [
        Compared(
            stage="sift",
            n=EVENTS,
            ours=rate["sift"],
            peer=rate[peer],
            peer_name=peer,
            unit="Gevents/s",
            goal=goal,
        ).row(quiet=cpu.path() is cpu.Path.AVX512)
        for peer, goal in GOALS.items()
    ]
    return rows, [
        f"sift: bit extraction {sifting.preferred().name}, key bits and nine tallies, time of one"
        f" thread; numpy does the same on bytes, {EVENTS_NUMPY:,} events; goals count on AVX512"
        " with VPCLMULQDQ"
    ]


def events() -> list[np.ndarray]:
    """Bits, bases of both ends, decoy, vacuum, and the other end's announced test bits.

    A quarter of each end's events in the test basis, one error in 64.
    """
    rng = np.random.default_rng(1)

    def one_in(power: int) -> np.ndarray:
        parts = rng.integers(0, 2**64, (power, EVENTS // 64), dtype=np.uint64)
        return np.bitwise_and.reduce(parts)

    bit, basis, their_basis, decoy = one_in(1), one_in(2), one_in(2), one_in(2)
    vacuum = one_in(3) & ~decoy
    return [
        *(bit, basis, their_basis, decoy, vacuum),
        sifting.extracted(bit ^ one_in(6), their_basis),
    ]


def with_masks(bit, basis, their_basis, decoy, vacuum, their_test):  # noqa: PLR0913, PLR0917 (as ours)
    """What `sifting.sift` gives, on uint8[n] of 0 and 1."""
    in_key, in_test = (basis | their_basis) == 0, (basis & their_basis) == 1
    theirs = np.zeros(bit.size, np.uint8)
    theirs[their_basis == 1] = their_test
    wrong = in_test & (bit != theirs)
    key = bit[in_key]
    counts = []
    for kind in (in_key, in_test, wrong):
        in_decoy, in_vacuum = (np.count_nonzero(kind & (level == 1)) for level in (decoy, vacuum))
        counts += [np.count_nonzero(kind) - in_decoy - in_vacuum, in_decoy, in_vacuum]
    return key, counts


def _agree(planes, their_test, expected) -> None:
    """Both do the same work, or the ratio would say nothing."""
    words = EVENTS_NUMPY // 64
    key = np.zeros(words + 1, np.uint64)
    counts = sifting.sift(*(plane[:words] for plane in planes), their_test, EVENTS_NUMPY, key)
    np.testing.assert_array_equal(unpack(key, expected[0].size), expected[0])
    assert counts.tolist() == expected[1]
