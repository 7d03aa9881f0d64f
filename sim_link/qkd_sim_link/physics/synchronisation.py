"""How well a receiver keeps the slots of a satellite's pulses by its synchronisation light.

What the satellite emits at the time t of its own clock arrives at t + x(t), where x = d / c. Its
synchronisation light has pulses at t_k = k T; the receiver measures when they arrive, with the
errors e_k. What is emitted at t = t_k + u T, before the next such pulse, it expects where the line
through its last two measurements leads. The light comes later than that by

    x(t) - x_k - u (x_k - x_(k-1))  -  (1 + u) e_k + u e_(k-1),    0 <= u < 1

The first part, left over of the satellite's motion, is about x'' T^2 (u^2 + u) / 2. The second has
the variance (1 + u)^2 + u^2 of one error: 8/3 on average, 5 at most.
Source: elementary; x of Larson and Wertz, see `physics.satellite`.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from qkd_sim_link.physics.satellite import pass_s, travel_ps
from qkd_sim_link.scenarios.channels import Satellite

Numbers = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
WORST_READING = sqrt(5)  # standard deviation of the second part over that of one error, at most


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """The last pulses of synchronisation light that are emitted before some times.

    pulse  int64[m], rising: k of each that is the last one before any of the times
    place  int64[n]: where in ``pulse`` that of each time is
    u      float64[n], 0 to 1: how much of an interval has passed since then
    """

    pulse: Indices
    place: Indices
    u: Numbers

    @staticmethod
    def before(satellite: Satellite, since_rise_s: Numbers) -> "Heard":
        """``since_rise_s``: float64[n], rising."""
        periods = since_rise_s * satellite.sync_hz
        whole = np.floor(periods)
        new = np.diff(whole, prepend=-np.inf) > 0
        return Heard(whole[new].astype(np.int64), np.cumsum(new) - 1, periods - whole)


def late_ps(
    satellite: Satellite, since_rise_s: Numbers, heard: Heard, errors_ps: tuple[Numbers, Numbers]
) -> Numbers:
    """float64[n]: by how much light emitted at these times comes later than it is expected.

    heard      of the same times
    errors_ps  float64[m] each: of the measurement of each pulse, and of the one before it

    The satellite is seen before it rises above the least elevation, so that there are two
    measurements from the beginning on.
    """
    last = travel_ps(satellite, heard.pulse / satellite.sync_hz) + errors_ps[0]
    before = travel_ps(satellite, (heard.pulse - 1) / satellite.sync_hz) + errors_ps[1]
    late: Numbers = travel_ps(satellite, since_rise_s)
    late -= last[heard.place]
    late -= heard.u * (last - before)[heard.place]
    return late


def largest_left_over_ps(satellite: Satellite) -> float:
    """By how much light comes too late at most in a pass, without errors: about x'' T^2.

    At the end of an interval that is a second difference of x; x'' is even about culmination, and
    largest there.
    """
    culmination_s = pass_s(satellite) / 2
    here, later = travel_ps(satellite, culmination_s + np.array([0.0, 1 / satellite.sync_hz]))
    return float(2 * (later - here))
