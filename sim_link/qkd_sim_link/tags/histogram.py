"""How often the events of two channels come how far apart."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkError
from qkd_core.kernels.correlation import count_lags

BINS_MAX = 1 << 24  # 128 MiB of counts

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Lags:
    """Pairs of events by their lag, the time in the second channel minus that in the first.

    counts    int64[bins]; bin k holds the lags from low_ps + k bin_ps, that included, to the next
    n_a, n_b  events of the channels
    span_ps   from the first event of either channel to the last; the lags were counted in it
    """

    counts: Times
    low_ps: int
    bin_ps: int
    n_a: int
    n_b: int
    span_ps: int

    def middle_ps(self) -> npt.NDArray[np.float64]:
        """float64[bins]: the lag in the middle of each bin."""
        first = self.low_ps + (self.bin_ps - 1) / 2  # of the whole picoseconds in a bin
        return first + self.bin_ps * np.arange(self.counts.size, dtype=np.float64)

    def by_chance(self) -> npt.NDArray[np.float64]:
        """float64[bins]: the mean count of steady light without any correlation.

        N_a N_b w / T for bins of width w in a record of length T, and 1 - |lag| / T of that: later
        ones have less of the record to come together in.
        """
        if not self.span_ps:
            return np.zeros(self.counts.size)
        together = 1 - np.abs(self.middle_ps()) / self.span_ps
        return self.n_a * self.n_b * self.bin_ps / self.span_ps * np.maximum(together, 0.0)


def lags(a: Times, b: Times, bin_ps: int, reach_ps: int) -> Lags:
    """Every pair of events at most about ``reach_ps`` apart, by lag; bin ends are exact.

    a, b  int64[..], rising, in ps by one clock; the same array twice counts each event with itself
    The bins reach from the multiple of ``bin_ps`` at or below -reach_ps as far above 0.
    Raises LinkError for times out of order and for more than `BINS_MAX` bins.
    """
    half = -(-reach_ps // bin_ps) if bin_ps > 0 else 0
    if not 0 < 2 * half <= BINS_MAX:
        raise LinkError(
            f"bins of {bin_ps} ps up to {reach_ps} ps: both above 0, at most {BINS_MAX} bins"
        )
    for name, time_ps in (("first", a), ("second", b)):
        require_rising(time_ps, f"the {name} channel")
    counts = np.zeros(2 * half, np.int64)
    count_lags(a, b, -half * bin_ps, bin_ps, counts)
    ends = [time for channel in (a, b) if channel.size for time in (channel[0], channel[-1])]
    span = int(max(ends) - min(ends)) if ends else 0
    return Lags(counts, -half * bin_ps, bin_ps, a.size, b.size, span)


def require_rising(time_ps: Times, what: str) -> None:
    """LinkError when a time is earlier than the one before it: where, and by how much."""
    back = np.flatnonzero(time_ps[1:] < time_ps[:-1])
    if back.size:
        at = int(back[0]) + 1
        step = int(time_ps[at - 1] - time_ps[at])
        raise LinkError(f"{what} is not in time order: tag {at} is {step} ps before tag {at - 1}")
