"""How Bob's clock runs against Alice's where the first search finds nothing: wider and longer.

`qkd_core.photons.clock.acquired` comes first: it is quick, and what the two sites use. Records
that begin further apart, a drift beyond its search, or light too weak for its circle of bins are
searched here on a circle four times as long, which also has a quarter of the chance coincidences
in each bin. A slice of both records is correlated at every drift; the peak is a guess that may be
false. It counts only when a straight line of coincidences stands out at it, in the slice and in
longer and longer ones up to the whole record, in either half of which it must be seen by itself.

Source of the method: Ho, Lamas-Linares, Kurtsiefer, New J. Phys. 11, 045011 (2009).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil, log, sqrt

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ClockNotFound
from qkd_core.kernels.correlation import fold
from qkd_core.photons.clock import FALSE_ALARM, ClockRelation, acquired, coincidences, surprise
from qkd_sim_link.tags.histogram import Times, require_rising

BINS = 1 << 20
BIN_PS = 1 << 15
REACH_PS = BINS * BIN_PS // 2  # 17 ms
DRIFT_MAX = 25e-6
FALSE_START = 1e-2  # that a slice of unrelated light gives a guess
SLICE_MIN_PS = 20_000_000_000
SLICE_MAX_PS = 400_000_000_000
SLICE_EVENTS = 500  # of the end that has fewer, in the first slice if there are so many
CHANCE_MAX = 16  # coincidences by chance in a bin
EVENTS_MIN = 1000
FINE_PS = 512  # about what two detectors and two taggers jitter

Counts = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Guess:
    """A relation for the ``slice_ps`` from ``relation.at_a`` on, and how far it may be off."""

    relation: ClockRelation
    slice_ps: int
    reach_ps: int
    drift: float


def acquire(a: Times, b: Times) -> ClockRelation:
    """The relation of two records of which nothing is known. Raises ClockNotFound, LinkError.

    a, b  int64[..], rising times of Alice's and of Bob's events in ps, by their own clocks
    Records of unrelated light give one with a probability of `FALSE_ALARM` for each guess.
    """
    for side, time_ps in (("Alice", a), ("Bob", b)):
        require_rising(time_ps, f"the record of {side}")
    try:
        return acquired(a, b)
    except ClockNotFound as narrow:
        if min(a.size, b.size) >= EVENTS_MIN:
            for guess in _guesses(a, b):
                if found := _verified(a, b, guess):
                    return found
        raise ClockNotFound(
            f"{narrow}; nor within {REACH_PS / 1e9:.1f} ms and {DRIFT_MAX * 1e6:g} ppm, in slices"
            f" of up to {SLICE_MAX_PS / 1e12:g} s"
        ) from narrow


def _guesses(a: Times, b: Times) -> Iterator[_Guess]:
    """The highest peak of each slice, from short slices to long ones.

    A slice of length T with C coincidences and R_a R_b pairs of events in a second has its peak
    C T / sqrt(R_a R_b T^2 / BINS) standard deviations above chance, which does not grow with T
    where a bin has many by chance.
    """
    spans = int(a[-1] - a[0]), int(b[-1] - b[0])
    crowded = sqrt(CHANCE_MAX * BINS / (a.size * b.size) * spans[0] * spans[1])
    longest = min(min(spans) - 2 * REACH_PS, max(SLICE_MIN_PS, min(SLICE_MAX_PS, round(crowded))))
    piece = min(longest, max(SLICE_MIN_PS, SLICE_EVENTS * min(spans) // min(a.size, b.size)))
    while SLICE_MIN_PS <= piece <= longest:
        yield from _correlated(a, b, piece)
        piece = min(4 * piece, max(longest, piece + 1))


def _correlated(a: Times, b: Times, piece: int) -> Iterator[_Guess]:
    """The highest peak of a slice over all lags and drifts, if chance seldom makes one as high.

    From small drifts to large ones, and uphill from the first peak that is beyond doubt; if that
    is not enough, the highest of all.
    """
    from_a, from_b = int(a[0]) + REACH_PS, int(b[0]) + REACH_PS
    part_a = _part(a, from_a, from_a + piece)
    part_b = _part(b, from_b - REACH_PS, from_b + REACH_PS + piece)
    spectrum = np.conj(np.fft.rfft(_folded(part_a, from_a, 0.0)))
    step = BIN_PS / piece
    n_steps = ceil(DRIFT_MAX / step)

    @cache
    def highest(trial: int) -> tuple[float, int]:
        """How many coincidences there are at the best lag, and which that is."""
        rate = -trial * step / (1 + trial * step)
        together = np.fft.irfft(spectrum * np.fft.rfft(_folded(part_b, from_b, rate)), BINS)
        place = int(np.argmax(together))
        return float(together[place]), place - BINS if place >= BINS // 2 else place

    def guess(trial: int) -> _Guess:
        drift, lag = trial * step, highest(trial)[1]
        relation = ClockRelation(from_a, from_b + round(lag * BIN_PS * (1 + drift)), drift)
        return _Guess(relation, piece, 2 * BIN_PS, 2 * step)

    by_chance = part_a.size * part_b.size / BINS
    needed = log(BINS * (2 * n_steps + 1) / FALSE_START)
    best, first = 0, None
    for trial in sorted(range(-n_steps, n_steps + 1), key=abs):
        best = max(best, trial, key=highest)
        if first is None and surprise(highest(best)[0], by_chance) > 3 * needed:
            first = _uphill(best, highest)
            yield guess(first)
    if best != first and surprise(highest(best)[0], by_chance) > needed:
        yield guess(best)


def _uphill(trial: int, height: Callable[[int], tuple[float, int]]) -> int:
    """The nearest trial that is above both its neighbours."""
    while True:
        higher = max(trial - 1, trial, trial + 1, key=height)
        if higher == trial:
            return trial
        trial = higher


def _folded(time_ps: Times, zero: int, rate: float) -> Counts:
    counts = np.zeros(BINS, np.float32)
    fold(time_ps, zero, BIN_PS, rate, counts)
    return counts


def _verified(a: Times, b: Times, guess: _Guess) -> ClockRelation | None:
    """The relation over the whole record, if it holds from the slice up to there."""
    record_end = min(int(a[-1]), int(guess.relation.to_alice(b[-1:])[0]))
    while True:
        relation = _line(a, b, guess)
        if relation is None:
            return None
        if abs(relation.drift) > 1.5 * DRIFT_MAX:
            return None
        rest = record_end - relation.at_a
        if guess.slice_ps >= rest:
            break
        drift = 2 * FINE_PS / guess.slice_ps
        guess = _Guess(relation, min(4 * guess.slice_ps, rest), 4 * FINE_PS, drift)
    middle = relation.at_a + rest // 2
    for part in (_part(a, relation.at_a, middle), _part(a, middle, record_end)):
        if not _stands_out(part, b, relation):
            return None
    return _fitted(a, b, relation)


def _line(a: Times, b: Times, guess: _Guess) -> ClockRelation | None:
    """The straight line of coincidences that stands out in the slice; None where none does."""
    part = _part(a, guess.relation.at_a, guess.relation.at_a + guess.slice_ps)
    reach = guess.reach_ps + round(guess.drift * guess.slice_ps)
    in_a, late = _late(part, b, guess.relation, reach)
    since = (part[in_a] - guess.relation.at_a).astype(np.float64)
    n_slopes = ceil(guess.drift * guess.slice_ps / FINE_PS)
    n_bins = 2 * ceil((reach + guess.drift * guess.slice_ps) / FINE_PS) + 1
    by_chance = late.size * FINE_PS / (2 * reach)
    best, most = None, log(n_bins * (2 * n_slopes + 1) / FALSE_ALARM)
    for trial in range(-n_slopes, n_slopes + 1):
        slope = trial * FINE_PS / guess.slice_ps
        places = np.rint((late - since * slope) / FINE_PS).astype(np.int64) + n_bins // 2
        counts = np.bincount(places, minlength=n_bins)
        place = int(np.argmax(counts))
        if (seen := surprise(float(counts[place]), by_chance)) > most:
            most = seen
            intercept = (place - n_bins // 2) * float(FINE_PS)
            best = guess.relation.moved(guess.relation.at_a, intercept, slope)
    return best


def _stands_out(part: Times, b: Times, relation: ClockRelation) -> bool:
    """Whether a part of Alice's record has more coincidences than chance gives it."""
    narrow, wide = 2 * FINE_PS, 32 * FINE_PS
    if not part.size:
        return False
    near, around = (_late(part, b, relation, reach)[1].size for reach in (narrow, wide))
    by_chance = max(0, around - near) * narrow / (wide - narrow)
    return surprise(float(near), by_chance) > -log(FALSE_ALARM)


def _fitted(a: Times, b: Times, relation: ClockRelation) -> ClockRelation | None:
    """The line through all coincidences, by least squares; None where they are at one time."""
    for reach in (4 * FINE_PS, 2 * FINE_PS):
        in_a, late = _late(a, b, relation, reach)
        since = (a[in_a] - relation.at_a).astype(np.float64)
        if not since.size or since[0] == since[-1]:
            return None
        middle = float(since.mean())
        off = since - middle
        slope = float(off @ late / (off @ off))
        relation = relation.moved(relation.at_a + round(middle), float(late.mean()), slope)
    return relation


def _late(part_a: Times, b: Times, relation: ClockRelation, reach_ps: int) -> tuple[Times, Times]:
    """Of the coincidences: the places in ``part_a``, and by how much Bob's event is later."""
    if not part_a.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    low = relation.to_bob(int(part_a[0]) - reach_ps) - 1
    high = relation.to_bob(int(part_a[-1]) + reach_ps) + 2
    by_alice = relation.to_alice(_part(b, low, high))
    in_a, in_b = coincidences(part_a, by_alice, reach_ps)
    return in_a, by_alice[in_b] - part_a[in_a]


def _part(time_ps: Times, begin: int, end: int) -> Times:
    """The times from ``begin`` to ``end``, that excluded; a view."""
    first, last = np.searchsorted(time_ps, (begin, end))
    return time_ps[first:last]
