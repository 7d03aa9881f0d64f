"""A beam through free space: diffraction, pointing, atmosphere, scintillation, sky.

With waist w0 and wavelength l the beam has after a distance L the radius (1/e^2 of the intensity)
w = w0 sqrt(1 + (l L / (pi w0^2))^2), and a telescope of diameter D in its middle takes
1 - e^(-D^2 / (2 w^2)) of it. Source: Saleh and Teich, Fundamentals of Photonics, section 3.1.

A beam that misses by r arrives with e^(-2 r^2 / w^2) of that, for a telescope much smaller than
the beam. With errors of standard deviation s in both directions r is Rayleigh distributed, and the
mean is 1 / (1 + 4 s^2 / w^2). Source: Farid and Hranilovic, J. Lightwave Technol. 25, 1702 (2007),
section III.

The atmosphere's transmittance is the zenith's to the power of the air mass sec z (plane layers,
good above some 10 degrees). Source: Bonato et al., New J. Phys. 11, 045017 (2009), section 3.

Scintillation multiplies the intensity by a log-normal factor of mean 1. Source: Andrews and
Phillips, Laser Beam Propagation through Random Media, 2nd edition, section 9.2 (weak fluctuations).

The sky of radiance H gives H Omega A filter gate in energy. Source: Er-long et al., New J. Phys. 7,
215 (2005), section 3.
"""

from math import exp, log1p, pi

import numpy as np
import numpy.typing as npt

from qkd_sim_link.physics.fibre import db_transmittance
from qkd_sim_link.physics.photons import photons
from qkd_sim_link.scenarios.channels import FreeSpace

Numbers = npt.NDArray[np.float64]


def beam_radius_m(free_space: FreeSpace, distance_km: Numbers) -> Numbers:
    """Radius of the beam where it arrives."""
    divergence = free_space.wavelength_nm * 1e-9 / (pi * free_space.waist_m)
    spread_m: Numbers = np.hypot(free_space.waist_m, divergence * distance_km * 1e3)
    return spread_m


def still_transmittance(free_space: FreeSpace, path: tuple[Numbers, Numbers]) -> Numbers:
    """From telescope to telescope without pointing errors and scintillation.

    path  distance in km, elevation in degrees
    """
    distance_km, elevation_deg = path
    radius_m = beam_radius_m(free_space, distance_km)
    collected = -np.expm1(-(free_space.aperture_m**2) / (2 * radius_m**2))
    air_mass = 1 / np.sin(np.radians(elevation_deg))
    optics = db_transmittance(free_space.optics_db)
    found: Numbers = optics * collected * free_space.zenith_transmittance**air_mass
    return found


def pointing_spread(free_space: FreeSpace, distance_km: Numbers) -> Numbers:
    """Standard deviation of the miss in each direction, as a part of the beam's radius."""
    missed_m = free_space.pointing_urad * 1e-6 * distance_km * 1e3
    return missed_m / beam_radius_m(free_space, distance_km)


def mean_pointing(spread: Numbers) -> Numbers:
    """The mean of e^(-2 r^2 / w^2) for errors of ``spread`` beam radii in each direction."""
    mean: Numbers = 1 / (1 + 4 * spread**2)
    return mean


def pointing_variance(spread: Numbers) -> Numbers:
    """The variance of e^(-2 r^2 / w^2): the mean of its square is 1 / (1 + 8 s^2 / w^2)."""
    variance: Numbers = 1 / (1 + 8 * spread**2) - mean_pointing(spread) ** 2
    return variance


def log_normal_sigma(scintillation: float) -> float:
    """Standard deviation of the logarithm of an intensity with this scintillation index."""
    return float(np.sqrt(log1p(scintillation)))


def log_normal(standard: Numbers, scintillation: float) -> Numbers:
    """Intensity factors of mean 1 from standard normal numbers."""
    sigma = log_normal_sigma(scintillation)
    factor: Numbers = np.exp(sigma * standard) * exp(-(sigma**2) / 2)
    return factor


def sky_photons(free_space: FreeSpace) -> float:
    """The mean number of photons of the sky that enter Bob's telescope in one gate."""
    solid_angle = pi / 4 * (free_space.field_of_view_urad * 1e-6) ** 2
    area_m2 = pi / 4 * free_space.aperture_m**2
    power_w = free_space.sky_radiance * solid_angle * area_m2 * free_space.filter_nm
    return photons(power_w * free_space.gate_ps * 1e-12, free_space.wavelength_nm)
