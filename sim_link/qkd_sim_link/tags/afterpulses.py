"""A detector's dead time and afterpulses, from its own tags under steady light.

Light without correlation gives every lag between two clicks of one detector the same rate of
pairs. Clicks that follow a click for no other reason come on top of it: the excess over the level
of late lags, for each click, is the mean number of them, later ones of a cascade included.
Source: Humer et al., J. Lightwave Technol. 33, 3098 (2015), for the correlation as the measure.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from qkd_core.errors import LinkError
from qkd_core.kernels.correlation import count_lags
from qkd_sim_link.tags.histogram import Times, require_rising

CLICKS_MIN = 1000
BINS = 128  # of what may hold afterpulses, and of the level


@dataclass(frozen=True, slots=True, kw_only=True)
class Afterpulsing:
    """What follows a click.

    dead_time_ps  the shortest time between two clicks
    excess        afterpulses for each click
    sigma         standard deviation of it, of the counts
    half_ps       within this time after the dead time half of them come; None where excess is
                  within two of its standard deviations of none
    """

    dead_time_ps: int
    excess: float
    sigma: float
    half_ps: int | None


def afterpulsing(time_ps: Times, reach_ps: int) -> Afterpulsing:
    """What follows a click within ``reach_ps`` of its dead time, beyond what comes as long again.

    time_ps  int64[n], one detector's clicks, rising, under steady light; n >= `CLICKS_MIN`
    Raises LinkError for fewer clicks or less than `BINS` ps.
    """
    require_rising(time_ps, "the detector")
    if time_ps.size < CLICKS_MIN or reach_ps < BINS:
        raise LinkError(
            f"{time_ps.size} clicks and {reach_ps} ps say nothing of afterpulses, at least"
            f" {CLICKS_MIN} and {BINS} do"
        )
    dead_time = int(np.diff(time_ps).min())
    counts = np.zeros(2 * BINS, np.int64)
    bin_ps = reach_ps // BINS
    count_lags(time_ps, time_ps, max(1, dead_time), bin_ps, counts)
    early, late = counts[:BINS], counts[BINS:]
    level = float(late.mean())
    beyond = int(early.sum()) - level * BINS
    sigma = sqrt(int(early.sum()) + int(late.sum()))
    grown = np.cumsum(early - level)
    half = int(np.argmax(grown >= beyond / 2)) + 1 if beyond > 2 * sigma else None
    return Afterpulsing(
        dead_time_ps=dead_time,
        excess=beyond / time_ps.size,
        sigma=sigma / time_ps.size,
        half_ps=None if half is None else half * bin_ps,
    )
