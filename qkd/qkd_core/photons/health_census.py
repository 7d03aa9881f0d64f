"""Statistics of bytes that should be uniform, all from one count of their values."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qkd_core.kernels.health import count_bytes
from qkd_core.photons.health_cutoffs import count_cutoff, min_entropy

Bytes = npt.NDArray[np.uint8]
Tables = npt.NDArray[np.uint32]

VALUES = np.arange(256, dtype=np.uint8)
ONES = np.bitwise_count(VALUES).astype(np.int64)
CHANGES = np.bitwise_count((VALUES ^ (VALUES >> 1)) & 0x7F).astype(np.int64)  # of 7 pairs of bits
TESTS = 3  # that `failing` makes


class Failing(NamedTuple):
    """The test that fails, what it found, and the value from which on it fails."""

    test: str
    value: float
    limit: float


@dataclass(slots=True, eq=False)
class Census:
    """What was counted in strings of bytes; bit 0 of a byte comes first.

    pairs, changes   neighbouring bits within a string, and those of them that differ
    """

    n_bytes: int = 0
    pairs: int = 0
    changes: int = 0
    tables: Tables = field(default_factory=lambda: np.zeros((4, 256), np.uint32), repr=False)

    def add(self, data: Bytes) -> None:
        """Count one string, uint8[n]."""
        if not data.size:
            return
        between = count_bytes(data, self.tables)
        self.n_bytes += data.size
        self.pairs += 8 * data.size - 1
        self.changes += int(between)

    def forget(self) -> None:
        """Begin anew."""
        self.n_bytes = self.pairs = self.changes = 0
        self.tables.fill(0)

    def failing(self, alpha: float) -> Failing | None:
        """The first of the tests that fails; of uniform bytes each does at most with ``alpha``.

        monobit      the count of the more frequent bit: n bits, each 1 with probability 1/2
        runs         the count of the more frequent kind of neighbours, equal or not: whether two
                     neighbouring bits differ is for uniform bits uniform and independent of all
                     the others, so the number of runs less one is exactly binomial
        min-entropy  the most common value of a byte; 256 values, each of probability 1/256

        Source: NIST SP 800-22, 2.1 and 2.3, with bounds in the place of the normal distribution
        (and 2.3 without its condition on 2.1); NIST SP 800-90B, 6.3.1.
        """
        if not self.n_bytes:
            return None
        counts = self.tables.sum(axis=0, dtype=np.int64)
        ones = int(counts @ ONES)
        changes = self.changes + int(counts @ CHANGES)
        for test, found, n in (
            ("monobit", ones, 8 * self.n_bytes),
            ("runs", changes, self.pairs),
        ):
            either = max(found, n - found)
            limit = count_cutoff(n, 1 / 2, alpha / 2)
            if either >= limit:
                return Failing(test, either, limit)
        most, limit = int(counts.max()), count_cutoff(self.n_bytes, 1 / 256, alpha / 256)
        if most >= limit:
            found_h, limit_h = (min_entropy(count, self.n_bytes) for count in (most, limit))
            return Failing("min-entropy", found_h, limit_h)
        return None
