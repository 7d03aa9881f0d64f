"""Monitors of both receivers of a link of pairs; `monitors` has those of pulses, and the bounds.

Each end looks at its own clicks before any of them is announced; Alice looks at the coincidences
as well, once she has found them. One that trips drops the block at both ends.

- *Arrival times.* Pairs come at random times, so an arrival time means nothing by itself: it is how
  late Bob's event of a coincidence comes after Alice's. Only she knows the times of both ends. She
  needs none of Bob's outcomes: in equal bases hers are his, but for the errors. So a delay that
  depends on the outcome at either end shows by her detectors. What moves both photons of a pair
  alike is a pair that was made at another time, and favours no detector.
- *Double clicks.* Events with clicks of several detectors come by chance, as often as the rates of
  the single detectors say.
- *Rates.* Of each detector, now and in the first blocks. Bright light that holds a detector down,
  or makes it click at a pace of its own, does not keep to the rate of before.
- *Balance.* As of pulses: of the detectors of a basis neither has far more clicks.

**False alarms.** At each end a block of a healthy link trips any of them with at most
``false_alarm``. Healthy means: lags of coincidences are independent, with laws that differ by no
more than ``arrival_distance`` and a delay; clicks of live detectors come at random, at rates that
change by no more than ``rate_share``; the mean number of double clicks is off by no more than
``double_click_share``; each click of a basis is in either detector with half, off by no more than
``balance_share``.

**Limits** are those of `monitors`. An Eve who sends bright pulses at the rates of before trips no
rate.
"""

from dataclasses import dataclass, field
from math import log, sqrt

import numpy as np
import numpy.typing as npt

from qkd_core.kernels.monitors import event_census
from qkd_core.photons.alignment import DETECTORS, PS_PER_S
from qkd_core.photons.coincidences import Lags
from qkd_core.photons.monitors import (
    PARTS,
    REFERENCE_BLOCKS,
    Arrivals,
    require_balanced,
    require_doubles,
    require_within,
)
from qkd_core.types.blocks import Detections
from qkd_core.types.monitors import PairMonitorSettings
from qkd_core.types.plans import PairSettings

RATE = "rates"
TAILS = 30  # lags: 8; double clicks: 2; rates: 4 of each detector; balance: 4

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """One end's clicks of a block, as its events have them.

    begun     int64[DETECTORS]: events that begin with a click of each detector
    live_ps   how long an event could begin
    n_doubles events with clicks of several detectors; ``doubles_expected`` by chance
    """

    begun: Integers
    live_ps: int
    n_doubles: int
    doubles_expected: float

    @classmethod
    def of(cls, tags: Detections, settings: PairSettings) -> "Clicks":
        """Of tags that `coincidences.events_of` takes.

        An event begins with all detectors live, so that the others click in its window at their
        rates: with first clicks n_d in the live time T and the window w, of the events that begin
        with detector d a fraction 1 - exp(-w (n - n_d) / T) has another one.
        """
        census = np.empty(DETECTORS + 1, np.int64)
        n_doubles = event_census(
            tags.time_ps, tags.detector, settings.window_ps, settings.hold_off_ps, census
        )
        begun, live_ps = census[:DETECTORS], int(census[DETECTORS])
        others = (begun.sum() - begun) / max(1, live_ps)
        expected = float(begun @ -np.expm1(-settings.window_ps * others))
        return cls(begun, live_ps, int(n_doubles), expected)

    @property
    def rate_hz(self) -> float:
        """Clicks in a second of live detectors."""
        return float(self.begun.sum()) * PS_PER_S / max(1, self.live_ps)


@dataclass(slots=True)
class PairWatch:
    """The monitors of one end, and what it has seen of the first blocks."""

    settings: PairMonitorSettings
    arrivals: Arrivals = field(default_factory=Arrivals)
    _begun: Integers = field(default_factory=lambda: np.zeros(DETECTORS, np.int64))
    _live_ps: int = 0
    _blocks: int = 0

    def require_clicks(self, clicks: Clicks) -> None:
        """Raises MonitorTripped for double clicks, rates or the balance of this end."""
        settings = self.settings
        if settings.double_click_share is not None:
            share = settings.double_click_share
            require_doubles(clicks.n_doubles, clicks.doubles_expected, share, self._tail)
        if settings.rate_share is not None:
            self._require_rates(clicks, settings.rate_share)
        if settings.balance_share is not None:
            require_balanced(clicks.begun, settings.balance_share, self._tail)

    def require_lags(self, lags: Lags, window_ps: int) -> None:
        """Raises MonitorTripped for the arrival times of coincidences in equal bases."""
        if self.settings.arrival_distance is not None:
            seen = parts_of(lags, window_ps)
            self.arrivals.require(seen, self.settings.arrival_distance, self._tail)

    @property
    def _tail(self) -> float:
        return self.settings.false_alarm / TAILS

    def _require_rates(self, clicks: Clicks, share: float) -> None:
        if self._live_ps and clicks.live_ps:
            times = clicks.live_ps / self._live_ps
            for detector, before in enumerate(self._begun.tolist()):
                low, high = means_of(before, self._tail)
                means = (1 - share) * times * low, (1 + share) * times * high
                what = f"{RATE}, clicks of detector {detector}"
                require_within(what, int(clicks.begun[detector]), means, self._tail)
        if self._blocks < REFERENCE_BLOCKS:
            self._begun += clicks.begun
            self._live_ps += clicks.live_ps
            self._blocks += 1


def means_of(n: int, tail: float) -> tuple[float, float]:
    """Between which the mean of a count is: either is wrong with at most ``tail``.

    The bounds of `monitors.require_within`, solved for the mean.
    """
    weight = -log(tail)
    above = (sqrt(2 * weight) + sqrt(2 * weight + 4 * n)) / 2
    below = max(0.0, sqrt(max(0.0, 4 * n - 2 * weight / 3)) - sqrt(2 * weight)) / 2
    return below**2, above**2


def parts_of(lags: Lags, window_ps: int) -> Integers:
    """int64[DETECTORS, PARTS]: lags in equal bases, by Alice's detector and part of the window."""
    half = window_ps // 2
    part = (lags.late_ps + half) * PARTS // (2 * half + 1)
    cell = lags.outcome.astype(np.int64) * PARTS + part
    seen = np.bincount(cell[lags.equal], minlength=DETECTORS * PARTS)
    return seen.astype(np.int64).reshape(DETECTORS, PARTS)
