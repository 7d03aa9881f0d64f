"""The course of one block as it happens: fading with a memory, a polarisation that drifts.

The polarisation is a Brownian motion from one realignment of Bob's to the next; each such window
has random numbers of its own, so that blocks which share one see the same path. Pointing errors
and the logarithm of the intensity are Ornstein-Uhlenbeck processes, exact at the middles of the
segments. Source: Uhlenbeck and Ornstein, Phys. Rev. 36, 823 (1930).
"""

from itertools import accumulate
from math import exp, sqrt

import numpy as np
import numpy.typing as npt

from qkd_core.types.plans import DecoySettings
from qkd_sim_link.physics.channel import path
from qkd_sim_link.physics.course import PASS_SEGMENTS, SEGMENTS_MAX, Course, still_course
from qkd_sim_link.physics.free_space import log_normal, pointing_spread
from qkd_sim_link.physics.polarisation import error
from qkd_sim_link.scenarios.channels import FreeSpace, Polarisation
from qkd_sim_link.scenarios.pulses import Scenario

Floats = npt.NDArray[np.float64]
SEGMENTS_PER_COHERENCE = 2
STEPS = 64  # of the polarisation between two realignments
_FADING, _DRIFT = 4, 5  # which numbers of a seed are theirs


def course_of(scenario: Scenario, settings: DecoySettings, begun_s: float, seed: int) -> Course:
    """The course of the block that begins at the link time ``begun_s``, for the link's ``seed``."""
    course = still_course(scenario, settings, _segment_gates(scenario, settings))
    since_s = course.middles_s(settings.clock_hz)
    if scenario.polarisation is not None:
        angles = _angles(scenario.polarisation, begun_s + since_s, seed)
        course = course.with_(misalignment=error(angles))
    free_space = scenario.free_space
    if free_space is not None and _fades(free_space):
        rng = np.random.default_rng((seed, _FADING, round(begun_s * 1e6)))
        distance_km, _ = path(scenario, free_space, since_s)
        keep = exp(-course.n_gates / settings.clock_hz / (free_space.coherence_ms * 1e-3))
        x, y, z = (_wander(since_s.size, keep, rng) for _ in range(3))
        missed = (x**2 + y**2) * pointing_spread(free_space, distance_km) ** 2
        factor = np.exp(-2 * missed) * log_normal(z, free_space.scintillation)
        most = 1 / np.maximum(course.transmittance, 1e-300)  # no focus makes photons
        course = course.with_(transmittance=np.minimum(factor, most))
    return course


def _fades(free_space: FreeSpace) -> bool:
    return free_space.pointing_urad > 0 or free_space.scintillation > 0


def _segment_gates(scenario: Scenario, settings: DecoySettings) -> int:
    """So that what changes is about constant, unless the block is too long for `SEGMENTS_MAX`."""
    lengths_s = [settings.link_s]
    if scenario.satellite is not None:
        lengths_s.append(settings.link_s / PASS_SEGMENTS)
    if scenario.polarisation is not None:
        lengths_s.append(scenario.polarisation.realign_s / STEPS)
    if scenario.free_space is not None and _fades(scenario.free_space):
        lengths_s.append(scenario.free_space.coherence_ms * 1e-3 / SEGMENTS_PER_COHERENCE)
    n_gates = min(settings.n_pulses, max(1, int(min(lengths_s) * settings.clock_hz)))
    return max(n_gates, -(-settings.n_pulses // SEGMENTS_MAX))


def _angles(polarisation: Polarisation, at_s: Floats, seed: int) -> Floats:
    """float64[n, 2]: by how much the states of both bases are off at these link times."""
    window = np.floor(at_s / polarisation.realign_s).astype(np.int64)
    since = at_s / polarisation.realign_s - window
    step = np.minimum((since * STEPS).astype(np.int64), STEPS - 1)
    spread = polarisation.walk_rad_per_sqrt_s * sqrt(polarisation.realign_s / STEPS)
    angles = np.empty((at_s.size, 2))
    for number in np.unique(window):
        rng = np.random.default_rng((seed, _DRIFT, int(number)))
        steps = spread * rng.standard_normal((STEPS, 2))
        steps[0] *= sqrt(0.5)  # to the middle of the first one
        here = window == number
        angles[here] = np.cumsum(steps, axis=0)[step[here]]
    return angles


def _wander(n: int, keep: float, rng: np.random.Generator) -> Floats:
    """float64[n], standard normal each, with correlation ``keep`` from one to the next."""
    noise = rng.standard_normal(n)
    noise[1:] *= sqrt(1 - keep**2)
    return np.fromiter(accumulate(noise, lambda last, new: keep * last + new), np.float64, n)
