"""What the scenario's channel does on average: the light that passes it, and the light it adds."""

import numpy as np
import numpy.typing as npt

from qkd_core.types.plans import DecoySettings
from qkd_sim_link.physics.fibre import db_transmittance, fibre_transmittance
from qkd_sim_link.physics.free_space import (
    mean_pointing,
    pointing_spread,
    pointing_variance,
    sky_photons,
)
from qkd_sim_link.physics.free_space import still_transmittance as still_beam
from qkd_sim_link.physics.polarisation import mean_error
from qkd_sim_link.physics.satellite import pass_s, seen_at
from qkd_sim_link.physics.wdm import background_photons
from qkd_sim_link.scenarios.channels import FreeSpace
from qkd_sim_link.scenarios.pulses import Scenario

Floats = npt.NDArray[np.float64]
FADING_STEPS = 256  # of a block, over which what fades is averaged


def still_transmittance(scenario: Scenario, since_s: Floats) -> Floats:
    """From Alice's output to Bob's input without pointing errors and scintillation.

    ``since_s``: after the beginning of a block; 0 once a satellite has set.
    """
    free_space = scenario.free_space
    if free_space is None:
        return np.full(since_s.shape, fibre_transmittance(scenario.require_fibre()))
    found: Floats = still_beam(free_space, path(scenario, free_space, since_s))
    if scenario.satellite is not None:
        found *= since_s <= pass_s(scenario.satellite)
    return found


def path(scenario: Scenario, free_space: FreeSpace, since_s: Floats) -> tuple[Floats, Floats]:
    """Distance in km and elevation in degrees; of a satellite that has set, where it did."""
    satellite = scenario.satellite
    if satellite is not None:
        sky = seen_at(satellite, np.minimum(since_s, pass_s(satellite)))
        return sky.distance_km, sky.elevation_deg
    ones = np.ones_like(since_s)
    return ones * (free_space.distance_km or 0.0), ones * (free_space.elevation_deg or 0.0)


def mean_fading(scenario: Scenario, since_s: Floats) -> Floats:
    """The mean over pointing errors and scintillation, a factor of `still_transmittance`."""
    if scenario.free_space is None:
        return np.ones_like(since_s)
    distance_km, _ = path(scenario, scenario.free_space, since_s)
    return mean_pointing(pointing_spread(scenario.free_space, distance_km))


def fading_spread(scenario: Scenario, settings: DecoySettings) -> float:
    """Standard deviation of a block's light over its mean; at most, where light is a sum of times.

    A process of variance v that forgets with the time constant t has an integral over a long time T
    with the variance 2 t v T at most: its parts, powers of the processes beneath, forget faster.
    """
    free_space = scenario.free_space
    if free_space is None:
        return 0.0
    mean, square = _light(scenario, free_space, settings)
    light = float(np.mean(mean))
    if not light:
        return 0.0
    variance = np.mean(square - mean**2)
    memory = 2 * free_space.coherence_ms * 1e-3 / settings.link_s
    return float(np.sqrt(variance * min(1.0, memory))) / light


def unevenness(scenario: Scenario, settings: DecoySettings) -> float:
    """The mean of a block's squared transmittance over the square of its mean: 1 of steady light.

    Where light is faint, double clicks are so many times as frequent as the mean light explains.
    """
    if scenario.free_space is None:
        return 1.0
    mean, square = _light(scenario, scenario.free_space, settings)
    light = float(np.mean(mean))
    return float(np.mean(square)) / light**2 if light else 1.0


def _light(
    scenario: Scenario, free_space: FreeSpace, settings: DecoySettings
) -> tuple[Floats, Floats]:
    """float64[n] each, through a block: mean transmittance and mean of its square."""
    edges = np.linspace(0.0, settings.link_s, FADING_STEPS + 1)
    since_s = (edges[1:] + edges[:-1]) / 2
    distance_km, _ = path(scenario, free_space, since_s)
    pointing = pointing_spread(free_space, distance_km)
    mean = mean_pointing(pointing)
    square = (pointing_variance(pointing) + mean**2) * (1 + free_space.scintillation)
    still = still_transmittance(scenario, since_s)
    return still * mean, still**2 * square


def receiver_transmittance(scenario: Scenario) -> float:
    """The probability that a photon at Bob's input starts an avalanche in a live gate."""
    return db_transmittance(scenario.receiver.insertion_loss_db) * scenario.detector.efficiency


def mean_misalignment(scenario: Scenario) -> float:
    """The receiver's own error or that of the wandering polarisation, but not both."""
    own, polarisation = scenario.receiver.misalignment_error, scenario.polarisation
    drifted = mean_error(polarisation) if polarisation else 0.0
    return own * (1 - drifted) + drifted * (1 - own)


def dark_probability(scenario: Scenario) -> tuple[float, float]:
    """Of each detector in a live gate: dark counts and light that the channel adds.

    Half of such light, which has no polarisation, reaches either detector. The sky's has come
    through the telescope, so it meets the optics behind it.
    """
    added = 0.0
    if scenario.wdm is not None:
        added += background_photons(scenario.wdm, scenario.require_fibre())
    if scenario.free_space is not None:
        added += sky_photons(scenario.free_space) * db_transmittance(scenario.free_space.optics_db)
    mean = added * receiver_transmittance(scenario) / 2
    silent = 1 - scenario.detector.dark_probability_per_gate
    of_0, of_1 = (
        float(1 - silent * np.exp(-mean * factor)) for factor in (1.0, scenario.detector.mismatch)
    )
    return of_0, of_1
