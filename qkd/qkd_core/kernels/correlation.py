"""Correlations of the event times of two ends."""

from numba import njit, types

from qkd_core.kernels.signatures import INT, INTS_IN, INTS_OUT, NOTHING

COUNTS_OUT = types.float32[::1]


@njit(NOTHING(INTS_IN, INT, INT, types.float64, COUNTS_OUT), cache=True, nogil=True)
def fold(time_ps, zero_ps, bin_ps, rate, counts):
    """Add each time to its bin of a circle of bins.

    time_ps  int64[n]; counted from ``zero_ps`` and multiplied by 1 + ``rate`` first
    counts   float32[bins], a power of two of them; bin 0 begins at ``zero_ps``
    """
    mask = counts.size - 1
    for i in range(time_ps.size):
        t = time_ps[i] - zero_ps
        t += types.int64(t * rate)
        counts[(t // bin_ps) & mask] += types.float32(1.0)


@njit(NOTHING(INTS_IN, INTS_IN, INT, INT, INTS_OUT), cache=True, nogil=True)
def count_lags(a, b, low_ps, bin_ps, counts):
    """Add to ``counts`` every pair of events by its lag, the time in ``b`` minus that in ``a``.

    a, b    int64[..], rising
    counts  int64[bins]; bin k holds the lags from low_ps + k bin_ps, that included, to the next
    """
    first = 0
    high = low_ps + bin_ps * counts.size
    for i in range(a.size):
        low = a[i] + low_ps
        while first < b.size and b[first] < low:
            first += 1
        j = first
        while j < b.size and b[j] < a[i] + high:
            counts[(b[j] - low) // bin_ps] += 1
            j += 1
