"""The source of randomness is watched: a draw that fails a test is never used.

SP 800-90B, 4.3: tests at the start and continuous ones on every sample. A sample is a byte, and
the source is assumed to give half of the entropy that it promises, `ASSUMED` of 8 bits: what it
asks for is that a failure is found at once, and a source that keeps its promise gives an alarm in
one of 2^64 places. The census is our own addition (the standard allows more tests): it finds a
bias that leaves more entropy than is assumed.

These tests prove nothing: the output of any generator passes them, under a seed that the whole
world knows. They find a source that is broken. How many of its bytes may have been used by then:

* stuck: 8; repeating after 7 bytes or less: two times `WINDOW`, 1 KiB;
* 52 % or more of the bits 1, or 0, or equal to the one before, or unequal; repeating after 500
  bytes or less: two times `CENSUS_BYTES`, 32 KiB, or one draw if that is longer.
"""

from threading import Lock

import numpy as np

from qkd_core.errors import EntropyFailed
from qkd_core.kernels.health import longest_run, most_in_window
from qkd_core.photons.entropy import Entropy
from qkd_core.photons.health_census import TESTS, Bytes, Census, Failing
from qkd_core.photons.health_cutoffs import WINDOW, proportion_cutoff, repetition_cutoff

ASSUMED = 4.0  # bits of min-entropy in a byte
ALPHA = 2.0**-30  # a false alarm in each place, of a source with no more entropy than assumed
REPETITIONS = repetition_cutoff(ALPHA, ASSUMED)
PROPORTION = proportion_cutoff(ALPHA, ASSUMED)
CENSUS_BYTES = 1 << 14  # at least so many bytes are counted before they are judged
CENSUS_FALSE_ALARM = 2.0**-60  # of a source that is uniform, each time it is judged


class WatchedSource:
    """An `Entropy` around another one; for any number of threads.

    It remembers counts, the last byte that was drawn and the first of a window, nothing else.
    """

    def __init__(self, draw: Entropy) -> None:
        """Draw, test and throw away what fills the census once. Raises EntropyFailed."""
        self._draw = draw
        self._lock = Lock()
        self._failed: Failing | None = None
        self._run = np.array([-1, 0])
        self._window = np.zeros(3, np.int64)
        self._census = Census()
        self(CENSUS_BYTES)

    def __call__(self, n: int) -> bytes:
        """``n`` fresh bytes. Raises EntropyFailed when they fail, or any bytes before them did."""
        if self._failed:
            raise EntropyFailed(*self._failed)
        drawn = self._draw(n)
        with self._lock:
            self._failed = self._failed or self._failing(np.frombuffer(drawn, np.uint8), n)
            if self._failed:
                raise EntropyFailed(*self._failed)
        return drawn

    def _failing(self, data: Bytes, n: int) -> Failing | None:
        if data.size != n:
            return Failing("length", data.size, n)
        longest = int(longest_run(data, REPETITIONS, self._run))
        if longest >= REPETITIONS:
            return Failing("repetition count", longest, REPETITIONS)
        most = int(most_in_window(data, WINDOW, self._window))
        if most >= PROPORTION:
            return Failing("adaptive proportion", most, PROPORTION)
        self._census.add(data)
        if self._census.n_bytes < CENSUS_BYTES:
            return None
        found = self._census.failing(CENSUS_FALSE_ALARM / TESTS)
        self._census.forget()
        return found
