"""The clock of a moving or drifting end, followed from epoch to epoch of Alice's time.

In each epoch the coincidences say how late Bob's events come against the prediction. A Kalman
filter with three states, offset, frequency and rate of the frequency, takes that in; what it does
not know, the change of the rate, is white noise. A satellite in a low orbit passes with up to 23
ppm and 0.4 ppm a second.

An epoch is LOCKED when its peak is beyond chance. Without one the prediction goes on, COASTING,
with a wider search each epoch; where that becomes too wide or too long, the clock is LOST, and is
sought anew in the epochs that follow.

Source of the filter: Bar-Shalom, Li, Kirubarajan, Estimation with Applications to Tracking and
Navigation (2001), section 6.2.3, the Wiener-process acceleration model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from math import ceil, inf, log, sqrt

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ClockNotFound
from qkd_core.photons.clock import FALSE_ALARM, ClockRelation, acquired, coincidences, surprise
from qkd_sim_link.tags.histogram import Times, lags, require_rising

PS_PER_S = 1e12
SIGMAS = 6.0  # of the prediction, within which the peak is sought
REACH_MAX_PS = 2_000_000
BINS_A_WINDOW = 4
CENTRINGS = 8
RATE_MAX = 6e-7  # of the frequency, 1/s
FINDING_PS = 200.0  # by which a clock just found may be off, were it not bent

State = npt.NDArray[np.float64]
Find = Callable[[Times, Times], ClockRelation]
"""The relation of two records of which nothing is known. Raises ClockNotFound."""


class Lock(Enum):
    """What an epoch says of the clock."""

    LOCKED = "locked"
    COASTING = "coasting"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """How a clock is followed.

    epoch_ps     so short that the rate of the frequency bends it by less than the window
    window_ps    of coincidences, full width
    jerk_per_s2  by how much the rate of the frequency (1/s) changes in a second, about
    coast_max    epochs in a row without a peak
    find_epochs  how many epochs are taken together to find the clock anew
    """

    epoch_ps: int
    window_ps: int
    jerk_per_s2: float
    coast_max: int
    find_epochs: int

    def __post_init__(self) -> None:
        counts = (self.epoch_ps, self.window_ps, self.jerk_per_s2, self.find_epochs)
        if min(counts) <= 0 or self.coast_max < 0:
            raise ValueError(f"{self}: all above 0, coast_max at least 0")


@dataclass(frozen=True, slots=True)
class BentRelation:
    """t_B - at_b = s (1 + drift) + rate s^2 / 2 with s = t_A - at_a; ``rate`` per second."""

    at_a: int
    at_b: int
    drift: float
    rate: float

    def to_bob(self, time_ps: int) -> int:
        """A time of Alice's by Bob's clock."""
        since = time_ps - self.at_a
        return self.at_b + since + round(since * (self.drift + self._bend() * since))

    def to_alice(self, time_ps: Times) -> Times:
        """Bob's times by Alice's clock, to a picosecond within a minute of ``at_b``."""
        passed = time_ps - self.at_b
        since = passed.astype(np.float64)
        for _ in range(4):  # each step makes the error smaller by the drift
            since = passed - since * (self.drift + self._bend() * since)
        by_alice: Times = self.at_a + passed - np.rint(passed - since).astype(np.int64)
        return by_alice

    def moved(self, at_a: int) -> "BentRelation":
        """The same relation, told from another time of Alice's."""
        drift = self.drift + self.rate * (at_a - self.at_a) / PS_PER_S
        return BentRelation(at_a, self.to_bob(at_a), drift, self.rate)

    def _bend(self) -> float:
        return self.rate / (2 * PS_PER_S)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fix:
    """What is known of the clock after an epoch, in the middle of it.

    clock           None where the clock is lost
    late_ps         by how much Bob's events came later than predicted; None without a peak
    sigma_ps        standard deviation of the clock's offset after the epoch, by the filter
    n_coincidences  within the window, those by chance included
    """

    epoch: int
    lock: Lock
    clock: BentRelation | None
    late_ps: float | None
    sigma_ps: float
    n_coincidences: int


@dataclass(frozen=True, slots=True, eq=False)
class _Filter:
    """The clock and the covariance of its offset (ps), frequency (ps/s) and rate (ps/s^2)."""

    clock: BentRelation
    covariance: State
    coasted: int

    def ahead(self, at_a: int, law: Following) -> "_Filter":
        """The prediction for a later time of Alice's."""
        dt = (at_a - self.clock.at_a) / PS_PER_S
        step = np.array([[1, dt, dt * dt / 2], [0, 1, dt], [0, 0, 1]])
        density = (law.jerk_per_s2 * PS_PER_S) ** 2  # of the jerk, that lasts about a second
        grown = density * np.array(
            [
                [dt**5 / 20, dt**4 / 8, dt**3 / 6],
                [dt**4 / 8, dt**3 / 3, dt**2 / 2],
                [dt**3 / 6, dt**2 / 2, dt],
            ]
        )
        covariance = step @ self.covariance @ step.T + grown
        return _Filter(self.clock.moved(at_a), covariance, self.coasted)

    def corrected(self, late_ps: float, sigma_ps: float, epoch_s: float) -> "_Filter":
        """With the mean lateness of an epoch, about its middle, taken in."""
        seen = np.array([1, 0, epoch_s**2 / 24])  # the mean of a parabola is not its middle
        through = self.covariance @ seen
        gain = through / (seen @ through + sigma_ps**2)
        offset, frequency, rate = gain * late_ps
        before = self.clock
        clock = BentRelation(
            before.at_a,
            before.at_b + round(offset),
            before.drift + frequency / PS_PER_S,
            before.rate + rate / PS_PER_S,
        )
        covariance = self.covariance - np.outer(gain, through)
        return _Filter(clock, (covariance + covariance.T) / 2, 0)


def followed(
    a: Times,
    b: Times,
    law: Following,
    find: Find = acquired,
    expected: BentRelation | None = None,
) -> Iterator[Fix]:
    """A fix for each whole epoch of Alice's record, from its first event on.

    a, b      int64[..], rising times in ps of Alice's and of Bob's events, by their own clocks
    find      finds the clock at the begin and after each loss, which takes much longer than an
              epoch of a clock that is known
    expected  about how the clocks run, as an orbit tells; if not given, both records begin
              together. What is left, within the search of ``find``, is found. After a loss the
              clock is expected to go on as before.
    Raises LinkError for times that are not in order.
    """
    for side, time_ps in (("Alice", a), ("Bob", b)):
        require_rising(time_ps, f"the record of {side}")
    if not a.size or not b.size:
        return
    begin = int(a[0])
    believed = expected or BentRelation(begin, int(b[0]), 0.0, 0.0)
    state: _Filter | None = None
    for epoch in range(int(a[-1] - begin) // law.epoch_ps):
        start = begin + epoch * law.epoch_ps
        if state is None:
            state = _found(a, b, believed.moved(start), (law, find))
        if state is None:
            yield _lost(epoch)
            continue
        predicted = state.ahead(start + law.epoch_ps // 2, law)
        fix, state = _taken(epoch, _part(a, start, start + law.epoch_ps), b, (predicted, law))
        believed = fix.clock or believed
        yield fix


def _found(
    a: Times, b: Times, believed: BentRelation, how: tuple[Following, Find]
) -> _Filter | None:
    """The clock in the epochs from ``believed.at_a`` on, found from nothing; or None."""
    law, find = how
    length = law.epoch_ps * law.find_epochs
    end = believed.at_a + length
    part_b = _part(b, believed.at_b, believed.to_bob(end))
    try:
        # of Bob's times without what is expected
        rest = find(_part(a, believed.at_a, end), believed.to_alice(part_b))
    except ClockNotFound:
        return None
    # the line that was found is a chord of the bent relation
    seconds = length / PS_PER_S
    deviations = np.array(
        [
            FINDING_PS + RATE_MAX * PS_PER_S * seconds**2 / 8,
            FINDING_PS / seconds + RATE_MAX * PS_PER_S * seconds / 2,
            RATE_MAX * PS_PER_S,
        ]
    )
    there = believed.moved(rest.to_bob(believed.at_a))
    drift = (1 + rest.drift) * (1 + there.drift) - 1
    clock = BentRelation(believed.at_a, there.at_b, drift, believed.rate)
    return _Filter(clock, np.diag(deviations**2), 0)


def _taken(
    epoch: int, part_a: Times, b: Times, how: tuple[_Filter, Following]
) -> tuple[Fix, _Filter | None]:
    """The fix of an epoch, and the filter after it; None where the clock is lost."""
    state, law = how
    offset, frequency = np.sqrt(np.diag(state.covariance)[:2])
    smear = frequency * law.epoch_ps / PS_PER_S / 2  # at the ends of the epoch
    reach = law.window_ps + ceil(SIGMAS * (offset + smear))
    if reach > REACH_MAX_PS:
        return _lost(epoch), None
    seen = _lateness(part_a, b, state.clock, (reach, law.window_ps + ceil(SIGMAS * smear)))
    if seen:
        lock = Lock.LOCKED
        state = state.corrected(seen.late_ps, seen.sigma_ps, law.epoch_ps / PS_PER_S)
    elif state.coasted < law.coast_max:
        lock, state = Lock.COASTING, replace(state, coasted=state.coasted + 1)
    else:
        return _lost(epoch), None
    fix = Fix(
        epoch=epoch,
        lock=lock,
        clock=state.clock,
        late_ps=seen.late_ps if seen else None,
        sigma_ps=sqrt(state.covariance[0, 0]),
        n_coincidences=seen.n if seen else 0,
    )
    return fix, state


def _lost(epoch: int) -> Fix:
    return Fix(
        epoch=epoch, lock=Lock.LOST, clock=None, late_ps=None, sigma_ps=inf, n_coincidences=0
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """How late Bob's events come in an epoch, by ``n`` coincidences."""

    late_ps: float
    sigma_ps: float
    n: int


def _lateness(
    part_a: Times, b: Times, clock: BentRelation, widths: tuple[int, int]
) -> _Seen | None:
    """By the peak within a reach, and the mean of the coincidences in a window (ps) around it."""
    reach, window = widths
    if not part_a.size:
        return None
    low, high = clock.to_bob(int(part_a[0]) - reach), clock.to_bob(int(part_a[-1]) + reach)
    by_alice = clock.to_alice(_part(b, low, high + 1))
    found = lags(part_a, by_alice, max(1, window // BINS_A_WINDOW), reach)
    place = int(np.argmax(found.counts))
    around = slice(max(0, place - BINS_A_WINDOW), place + BINS_A_WINDOW + 1)
    outside = found.counts.size - found.counts[around].size
    by_chance = (found.counts.sum() - found.counts[around].sum()) / max(1, outside)
    peak = float(found.counts[place])
    if surprise(peak, float(by_chance)) < log(found.counts.size / FALSE_ALARM):
        return None
    late = float(found.middle_ps()[place])
    for _ in range(CENTRINGS):  # the window moves onto the peak, which it may have cut
        shift = round(late)
        in_a, in_b = coincidences(part_a, by_alice - shift, window // 2)
        off = by_alice[in_b] - shift - part_a[in_a]
        if not off.size:
            return None
        late = shift + float(off.mean())
        if round(late) == shift:
            break
    return _Seen(late, max(1.0, float(off.std())) / sqrt(off.size), off.size)


def _part(time_ps: Times, begin: int, end: int) -> Times:
    """The times from ``begin`` to ``end``, that excluded; a view."""
    first, last = np.searchsorted(time_ps, (begin, end))
    return time_ps[first:last]
