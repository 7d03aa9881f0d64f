"""A key is looked at before it is stored: does it look like what a uniform one never looks like?

These tests prove nothing: the output of any cipher passes them, under a key that the whole world
knows. That a key is secret follows from the theorem of its plan and from nothing else. They find
devices, drivers and programs that are broken: bits that are stuck, biased, correlated or repeated
within about a hundred bytes.

Equal keys pass or fail alike, so both sites come to the same verdict without a word. The verdict
is known to everybody, and a uniform key that is known to have passed is no longer quite uniform:
by a false alarm's probability, which the block spends besides ``eps_sec``. It is so small that no
healthy link loses a block.
"""

import numpy as np

from qkd_core.errors import KeyNotRandom
from qkd_core.kernels.health import longest_run, most_in_window
from qkd_core.photons.health_census import TESTS, Bytes, Census, Failing
from qkd_core.photons.health_cutoffs import WINDOW, proportion_cutoff, repetition_cutoff
from qkd_core.proofs.ledger import HEALTH_EPSILON
from qkd_core.types.bits import wipe
from qkd_core.types.blocks import SecretKey

FALSE_ALARM = HEALTH_EPSILON  # of all tests of a key together
SHARE = FALSE_ALARM / (TESTS + 2)  # of each test
BYTE_BITS = 8  # of entropy in a byte of a uniform key


def require_random(key: SecretKey) -> None:
    """Raise KeyNotRandom unless ``key`` passes every test; its bits are then wiped.

    Whole bytes are looked at: bits beyond the last one are not.
    """
    found = _failing(key.bits.view(np.uint8)[: key.n_bits // 8])
    if found:
        wipe(key.bits)
        raise KeyNotRandom(*found)


def _failing(data: Bytes) -> Failing | None:
    """The census' tests, then those of SP 800-90B, 4.4, with cutoffs for uniform bytes."""
    census = Census()
    census.add(data)
    found = census.failing(SHARE)
    wipe(census.tables)
    return found or _repeating(data) or _unproportional(data)


def _repeating(data: Bytes) -> Failing | None:
    limit = repetition_cutoff(SHARE / max(1, data.size), BYTE_BITS)
    longest = int(longest_run(data, limit, np.array([-1, 0])))
    return Failing("repetition count", longest, limit) if longest >= limit else None


def _unproportional(data: Bytes) -> Failing | None:
    windows = max(1, -(-data.size // WINDOW))
    limit = proportion_cutoff(SHARE / windows, BYTE_BITS)
    most = int(most_in_window(data, WINDOW, np.zeros(3, np.int64)))
    return Failing("adaptive proportion", most, limit) if most >= limit else None
