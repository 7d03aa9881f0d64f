"""How Bob's clock runs against Alice's, found from the times of both ends' events alone.

Nothing is known before but that both ends began within `REACH_PS` of each other, and that their
rates differ by at most `DRIFT_MAX`. A short piece of Alice's record is correlated with Bob's by a
Fourier transform over a circle of bins; the peak is then followed to the end of the record, with
finer bins the longer the piece is. The first peak may be a false one with probability
`FALSE_START`, which costs time; on the way a peak counts only when chance makes one as high with
probability `FALSE_ALARM`, in each step anew.

Source of the method: Ho, Lamas-Linares, Kurtsiefer, New J. Phys. 11, 045011 (2009).
"""

from dataclasses import dataclass
from math import ceil, log

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ClockNotFound
from qkd_core.kernels.coincidence import coincide
from qkd_core.kernels.correlation import count_lags, fold

BINS = 1 << 18
BIN_PS = 1 << 15
REACH_PS = BINS * BIN_PS // 2  # 4.3 ms
DRIFT_MAX = 20e-6
FALSE_START = 1e-2
FALSE_ALARM = 1e-9
EVENTS_MIN = 1000  # of a record; of the first piece that is tried as well, if one has so many
PIECE_MIN_PS = 2_000_000_000
TRIALS_MAX = 64  # of a drift, in each direction
PLAIN = 6  # a peak that stands out so many times more than is needed ends the search for others
FINE_PS = 512  # the finest bins: about what two detectors and two taggers jitter
TRACKED_REACH_PS = 100_000.0  # how far a clock may be from where the last block left it
TRACKED_DRIFT = 1e-7

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClockRelation:
    """t_B - at_b = (t_A - at_a) (1 + drift), in picoseconds of either clock."""

    at_a: int
    at_b: int
    drift: float

    def to_alice(self, time_ps: Times) -> Times:
        """Bob's times by Alice's clock."""
        since = time_ps - self.at_b
        ahead = np.rint(since * (self.drift / (1 + self.drift)))
        by_alice: Times = self.at_a + since - ahead.astype(np.int64)
        return by_alice

    def to_bob(self, time_ps: int) -> int:
        """A time of Alice's by Bob's clock."""
        since = time_ps - self.at_a
        return self.at_b + since + round(since * self.drift)

    def told(self, at_a: int) -> tuple[float, float]:
        """For people: Bob's clock minus Alice's at a time of hers, in s; its drift in ppm."""
        return (self.to_bob(at_a) - at_a) * 1e-12, self.drift * 1e6

    def moved(self, at_a: int, late_ps: float, drift: float) -> "ClockRelation":
        """Where Bob's events come ``late_ps`` after this relation at ``at_a``, and more each ps."""
        return ClockRelation(at_a, self.to_bob(at_a) + round(late_ps), self.drift + drift)


@dataclass(frozen=True, slots=True)
class Guess:
    """A relation that may be off by ``reach_ps`` and ``drift``; true for a piece at least."""

    relation: ClockRelation
    reach_ps: float
    drift: float
    piece_ps: int


def acquired(a: Times, b: Times) -> ClockRelation:
    """The relation of two records of which nothing is known. Raises ClockNotFound.

    a, b  int64[..], the rising times of Alice's and of Bob's events, by their own clocks
    """
    if min(a.size, b.size) >= EVENTS_MIN:
        record = int(min(a[-1] - a[0], b[-1] - b[0])) - 2 * REACH_PS
        longest = min(record, int(TRIALS_MAX * BIN_PS / DRIFT_MAX))
        piece = min(longest, max(PIECE_MIN_PS, _time_of(a, EVENTS_MIN), _time_of(b, EVENTS_MIN)))
        while PIECE_MIN_PS <= piece <= longest:
            guess = _correlated(a, b, piece)
            relation = guess and _followed(a, b, guess)
            if relation:
                return relation
            piece = min(4 * piece, max(longest, piece + 1))
    raise ClockNotFound(
        f"{a.size} and {b.size} events show no common light: at most {REACH_PS / 1e9:.1f} ms and"
        f" {DRIFT_MAX * 1e6:g} ppm are searched"
    )


def tracked(a: Times, b: Times, before: ClockRelation) -> ClockRelation | None:
    """The relation, near where an earlier block left it; None where it is not."""
    if min(a.size, b.size) < EVENTS_MIN:
        return None
    record = int(a[-1] - a[0])
    begun = before.moved(int(a[0]), 0.0, 0.0)
    return _followed(a, b, Guess(begun, TRACKED_REACH_PS, TRACKED_DRIFT, max(1, record // 16)))


def _time_of(time_ps: Times, n: int) -> int:
    """How long ``n`` events take, about."""
    return n * int(time_ps[-1] - time_ps[0]) // time_ps.size


def _correlated(a: Times, b: Times, piece: int) -> Guess | None:
    """Correlate a piece of Alice's record with what of Bob's may belong to it, at each drift."""
    from_a, from_b = int(a[0]) + REACH_PS, int(b[0]) + REACH_PS
    part_a = _part(a, from_a, from_a + piece)
    part_b = _part(b, int(b[0]), from_b + REACH_PS + piece)
    step = BIN_PS / piece
    n_steps = ceil(DRIFT_MAX / step) if DRIFT_MAX * piece > BIN_PS else 0
    by_chance = part_a.size * part_b.size / BINS
    needed = log(BINS * (2 * n_steps + 1) / FALSE_START)
    spectrum = np.conj(np.fft.rfft(_folded(part_a, from_a, 0.0)))

    def tried(trial: int) -> tuple[float, int]:
        """How surprising the highest bin is at a drift of so many steps, and which one it is."""
        drift = trial * step
        circle = _folded(part_b, from_b, -drift / (1 + drift))
        together = np.fft.irfft(spectrum * np.fft.rfft(circle), BINS)
        place = int(np.argmax(together))
        return surprise(float(together[place]), by_chance), place

    most, place, best = needed, -1, 0
    for trial in sorted(range(-n_steps, n_steps + 1), key=abs):
        seen, at = tried(trial)
        if seen > most:
            most, place, best = seen, at, trial
            if seen > PLAIN * needed:
                break
    if place < 0:
        return None
    for way in (-1, 1):  # much light in common shows at drifts nearby as well, smeared
        while abs(best + way) <= n_steps:
            seen, at = tried(best + way)
            if seen <= most:
                break
            most, place, best = seen, at, best + way
    drift = best * step
    lag = (place - BINS if place >= BINS // 2 else place) * BIN_PS
    relation = ClockRelation(from_a, from_b + round(lag * (1 + drift)), drift)
    return Guess(relation, 2.0 * BIN_PS, step if n_steps else DRIFT_MAX, piece)


def _folded(time_ps: Times, zero: int, rate: float) -> npt.NDArray[np.float32]:
    counts = np.zeros(BINS, np.float32)
    fold(time_ps, zero, BIN_PS, rate, counts)
    return counts


def _followed(a: Times, b: Times, guess: Guess) -> ClockRelation | None:
    """Sharpen a guess over longer and longer pieces; None when the peak is lost on the way."""
    begin = max(guess.relation.at_a, int(a[0]), int(guess.relation.to_alice(b[:1])[0]))
    end = min(int(a[-1]), int(guess.relation.to_alice(b[-1:])[0]) - BIN_PS)
    piece = min(guess.piece_ps, end - begin)
    while piece > 0:
        sharper = _sharpened(a, b, guess, (begin, begin + piece))
        if sharper is None:
            return None
        guess = sharper
        if piece == end - begin:
            return _fitted(a, b, guess.relation)
        piece = min(4 * piece, end - begin)
    return None


def _sharpened(a: Times, b: Times, guess: Guess, piece: tuple[int, int]) -> Guess | None:
    """By the peaks in the first and the last quarter of a piece, until bins cannot be finer."""
    length = piece[1] - piece[0]
    width = length // 4
    while True:
        relation = guess.relation
        bin_ps = max(FINE_PS, ceil(guess.drift * width))
        half_bins = ceil((guess.reach_ps + guess.drift * length) / bin_ps) + 2
        early = _lag(_part(a, piece[0], piece[0] + width), b, relation, (bin_ps, half_bins))
        late = _lag(_part(a, piece[1] - width, piece[1]), b, relation, (bin_ps, half_bins))
        if early is None or late is None:
            return None
        between = length - width
        relation = relation.moved(piece[0] + width // 2, early, (late - early) / between)
        drift = 1.5 * bin_ps / between
        sharper = Guess(relation, 2.0 * bin_ps, min(drift, guess.drift), length)
        if abs(relation.drift) > 2 * DRIFT_MAX:
            return None
        if bin_ps == FINE_PS or drift > 0.7 * guess.drift:
            return sharper
        guess = sharper


def _lag(part_a: Times, b: Times, relation: ClockRelation, bins: tuple[int, int]) -> float | None:
    """How late Bob's events come in a part of the record; None when no peak stands out.

    bins  their width in ps, and how many of them in each direction
    """
    if not part_a.size:
        return None
    counts = lag_counts(part_a, b, relation, bins)
    place = int(np.argmax(counts))
    around = slice(max(0, place - 1), place + 2)
    by_chance = (counts.sum() - counts[around].sum()) / max(1, counts.size - 3)
    if surprise(float(counts[place]), float(by_chance)) < log(counts.size / FALSE_ALARM):
        return None
    above = np.maximum(counts[around] - by_chance, 0)
    centre = (np.arange(counts.size)[around] + 0.5) @ above / above.sum()
    return float((centre - bins[1]) * bins[0])


def lag_counts(
    part_a: Times, b: Times, relation: ClockRelation, bins: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """int64[2 n]: pairs of events by how late Bob's comes, in bins (width in ps, n) around 0."""
    bin_ps, half_bins = bins
    reach = bin_ps * half_bins
    low, high = (
        relation.to_bob(int(part_a[place]) + sign * (reach + 1))
        for place, sign in ((0, -1), (-1, 1))
    )
    counts = np.zeros(2 * half_bins, np.int64)
    count_lags(part_a, relation.to_alice(_part(b, low, high + 1)), -reach, bin_ps, counts)
    return counts


def _fitted(a: Times, b: Times, relation: ClockRelation) -> ClockRelation | None:
    """The line through the lags of all coincidences, by least squares; None where there is none."""
    for reach in (4 * FINE_PS, 2 * FINE_PS):
        in_a, in_b = coincidences(a, relation.to_alice(b), reach)
        since = (a[in_a] - a[0]).astype(np.float64)
        if not since.size or since[0] == since[-1]:
            return None
        late = relation.to_alice(b[in_b]) - a[in_a]
        middle, mean = since.mean(), late.mean()
        slope = ((since - middle) @ (late - mean)) / ((since - middle) @ (since - middle))
        relation = relation.moved(int(a[0]) + round(middle), float(mean), float(slope))
    return relation


def coincidences(a: Times, b: Times, reach_ps: int) -> tuple[Times, Times]:
    """The places in ``a`` and ``b`` of events at most ``reach_ps`` apart, by one clock.

    Each event is in one pair at most: see `kernels.coincidence.coincide`.
    """
    in_a, in_b = (np.empty(min(a.size, b.size), np.int64) for _ in range(2))
    n = coincide(a, b, reach_ps, in_a, in_b)
    return in_a[:n], in_b[:n]


def surprise(count: float, mean: float) -> float:
    """-ln of a bound on the probability that a Poisson count of ``mean`` reaches ``count``.

    Source: Chernoff, P[X >= k] <= exp(-(k ln(k / m) - k + m)) for k > m.
    """
    if count <= mean:
        return 0.0
    return count * log(count / max(mean, 1e-9)) - count + mean


def _part(time_ps: Times, begin: int, end: int) -> Times:
    """The times from ``begin`` to ``end``, that excluded; a view."""
    first, last = np.searchsorted(time_ps, (begin, end))
    return time_ps[first:last]
