"""How a link changes through a block: piecewise constant over segments of equally many gates.

Whatever changes a link, a satellite's pass, fading, a drift or a fault, is a factor on some of
these arrays: see `Course.with_`. Every value is a probability or a part of a whole, so that no
change can take a click probability above 1, and a sampler finds its largest one in the arrays.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError
from qkd_core.types.plans import DecoySettings
from qkd_sim_link.physics.channel import (
    dark_probability,
    mean_fading,
    mean_misalignment,
    receiver_transmittance,
    still_transmittance,
)
from qkd_sim_link.scenarios.pulses import Scenario

SEGMENTS_MAX = 1 << 16
PASS_SEGMENTS = 512  # of a satellite's pass: neighbours differ by less than 2 %
Floats = npt.NDArray[np.float64]
_PAIRS = {"misalignment": 2, "dark": 2, "efficiency": 2}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """One block of a link. Segment i begins with gate i ``n_gates``; the last one may be short.

    transmittance  float64[n], from Alice's output to an avalanche in a detector of full
                   efficiency: 0 to 1
    misalignment   float64[n, 2], probability that a photon takes the wrong port in the key basis
                   and in the test basis: 0 to 1
    dark           float64[n, 2], of the detectors of the bits 0 and 1: a click without light of
                   Alice's in a live gate: 0 to 1
    efficiency     float64[n, 2], of the same detectors, as a part of the scenario's: 0 to 1. It
                   does not touch ``dark``: a detector that latches has 0 of both

    Raises ConfigError for other shapes and values.
    """

    n_pulses: int
    n_gates: int
    transmittance: Floats
    misalignment: Floats
    dark: Floats
    efficiency: Floats

    def __post_init__(self) -> None:
        if self.n_gates < 1 or self.n_segments != -(-self.n_pulses // self.n_gates):
            raise ConfigError(
                f"{self.n_segments} segments of {self.n_gates} gates for {self.n_pulses} pulses"
            )
        for name in ("transmittance", "misalignment", "dark", "efficiency"):
            values = getattr(self, name)
            shape = (self.n_segments, *((_PAIRS[name],) if name in _PAIRS else ()))
            if values.shape != shape:
                raise ConfigError(f"{name} of a course: shape {values.shape}, not {shape}")
            if not np.all((values >= 0) & (values <= 1)):
                raise ConfigError(f"{name} of a course: every value from 0 to 1")

    @property
    def n_segments(self) -> int:
        return int(self.transmittance.shape[0])

    @property
    def gates(self) -> Floats:
        """float64[n]: how many gates each segment has."""
        ends = np.minimum(np.arange(1, self.n_segments + 1) * self.n_gates, self.n_pulses)
        return np.diff(ends, prepend=0).astype(np.float64)

    def middles_s(self, clock_hz: float) -> Floats:
        """float64[n]: seconds from the block's beginning to the middle of each whole segment."""
        return (np.arange(self.n_segments, dtype=np.float64) + 0.5) * (self.n_gates / clock_hz)

    def refined(self, n_gates: int) -> "Course":
        """The same course in segments of at most ``n_gates``, to change them one by one.

        Where these do not fit into the old ones, a border moves by up to half a new segment. Raises
        ConfigError when they are more than `SEGMENTS_MAX`.
        """
        size = min(n_gates, self.n_gates)
        n = -(-self.n_pulses // size)
        if n > SEGMENTS_MAX:
            raise ConfigError(f"{n} segments of a course: at most {SEGMENTS_MAX}")
        old = np.minimum((np.arange(n) * size + size // 2) // self.n_gates, self.n_segments - 1)
        return replace(
            self,
            n_gates=size,
            transmittance=self.transmittance[old],
            misalignment=self.misalignment[old],
            dark=self.dark[old],
            efficiency=self.efficiency[old],
        )

    def with_(
        self,
        *,
        transmittance: Floats | float = 1.0,
        misalignment: Floats | float = 0.0,
        dark: Floats | float = 1.0,
        efficiency: Floats | float = 1.0,
    ) -> "Course":
        """This course with a further change; changes commute.

        transmittance, efficiency  factors
        dark                       a factor on the mean number of clicks without light, so that a
                                   great one leads to 1 and not beyond
        misalignment               probability of one more flip of the port

        Each is one number or an array that broadcasts to the course's. Raises ConfigError when a
        factor leads beyond 1.
        """
        return replace(
            self,
            transmittance=self.transmittance * transmittance,
            misalignment=self.misalignment + misalignment - 2 * self.misalignment * misalignment,
            dark=-np.expm1(np.log1p(-np.minimum(self.dark, 1 - 1e-16)) * dark),
            efficiency=self.efficiency * efficiency,
        )


def still_course(scenario: Scenario, settings: DecoySettings, n_gates: int) -> Course:
    """A block without fading and drift, in segments of ``n_gates``: only a satellite passes."""
    segments = -(-settings.n_pulses // n_gates)
    middle_s = (np.arange(segments, dtype=np.float64) + 0.5) * (n_gates / settings.clock_hz)
    pair = (segments, 2)
    return Course(
        n_pulses=settings.n_pulses,
        n_gates=n_gates,
        transmittance=still_transmittance(scenario, middle_s) * receiver_transmittance(scenario),
        misalignment=np.full(pair, scenario.receiver.misalignment_error),
        dark=np.broadcast_to(dark_probability(scenario), pair),
        efficiency=np.broadcast_to((1.0, scenario.detector.mismatch), pair),
    )


def steady_course(scenario: Scenario, settings: DecoySettings) -> Course:
    """The mean of what a block can be: one segment, or `PASS_SEGMENTS` of a satellite's pass."""
    n_gates = settings.n_pulses
    if scenario.satellite is not None:
        n_gates = -(-n_gates // PASS_SEGMENTS)
    course = still_course(scenario, settings, n_gates)
    fading = mean_fading(scenario, course.middles_s(settings.clock_hz))
    drifted = np.full_like(course.misalignment, mean_misalignment(scenario))
    return replace(course.with_(transmittance=fading), misalignment=drifted)
