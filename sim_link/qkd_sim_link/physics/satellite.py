"""A pass of a satellite on a circular orbit over a station of an Earth at rest.

The station sees the satellite along a great circle; at time t from culmination the angle between
both, seen from the centre of the Earth, is g with cos g = cos(omega t) cos g_min. With Earth's
radius R and the orbit's radius r:

    distance     d^2 = R^2 + r^2 - 2 R r cos g = d_min^2 + 4 R r cos g_min sin^2(omega t / 2)
    elevation    sin e = (r cos g - R) / d
    range rate   d' = R r omega cos g_min sin(omega t) / d
    its rate     d'' = (R r omega^2 cos g_min cos(omega t) - d'^2) / d

omega^2 = GM / r^3 is Kepler's third law, g at elevation e is arccos(R cos e / r) - e.
Source: Larson and Wertz, Space Mission Analysis and Design, 3rd edition, sections 5.2 and 5.3.
The Earth's rotation, up to 7 % of the speed of a low orbit, is left out.
"""

from dataclasses import dataclass
from math import acos, cos, radians, sin, sqrt

import numpy as np
import numpy.typing as npt

from qkd_sim_link.physics.photons import LIGHT_M_PER_S
from qkd_sim_link.scenarios.channels import Satellite

EARTH_KM = 6371.0  # mean radius: Moritz, Geodetic Reference System 1980
EARTH_GM = 398_600.4418  # km^3/s^2: the same
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sky:
    """Where the satellite is, and how fast that changes: float64[n] each.

    doppler, doppler_rate  relative shift of a frequency that the station receives, and per second
    """

    distance_km: Numbers
    elevation_deg: Numbers
    doppler: Numbers
    doppler_rate: Numbers


def pass_s(satellite: Satellite) -> float:
    """How long the satellite is above the least elevation."""
    orbit_km, omega = _orbit(satellite)
    least = _central_angle(satellite.max_elevation_deg, orbit_km)
    rising = _central_angle(satellite.min_elevation_deg, orbit_km)
    return 2 * acos(cos(rising) / cos(least)) / omega


def seen_at(satellite: Satellite, since_rise_s: Numbers) -> Sky:
    """The satellite ``since_rise_s`` after it rose above the least elevation."""
    orbit_km, omega = _orbit(satellite)
    nearest = cos(_central_angle(satellite.max_elevation_deg, orbit_km))
    phase = _phase(satellite, since_rise_s)
    distance = distance_km(satellite, since_rise_s)
    product = EARTH_KM * orbit_km * omega * nearest
    speed = product * np.sin(phase) / distance
    acceleration = (product * omega * np.cos(phase) - speed**2) / distance
    light = LIGHT_M_PER_S / 1e3
    above = orbit_km * np.cos(phase) * nearest - EARTH_KM
    return Sky(
        distance_km=distance,
        # rounding may lead beyond 1 where the satellite is overhead
        elevation_deg=np.degrees(np.arcsin(np.clip(above / distance, -1, 1))),
        doppler=-speed / light,
        doppler_rate=-acceleration / light,
    )


def distance_km(satellite: Satellite, since_rise_s: Numbers) -> Numbers:
    """float64[n], exact to the last digits, as the time of a pulse needs it.

    The squares of the two radii are so much greater that their rounding would show.
    """
    orbit_km, _ = _orbit(satellite)
    least = _central_angle(satellite.max_elevation_deg, orbit_km)
    product = 4 * EARTH_KM * orbit_km
    nearest = satellite.altitude_km**2 + product * sin(least / 2) ** 2
    further = product * cos(least) * np.sin(_phase(satellite, since_rise_s) / 2) ** 2
    distance: Numbers = np.sqrt(nearest + further)
    return distance


def travel_ps(satellite: Satellite, since_rise_s: Numbers) -> Numbers:
    """float64[n]: how long light takes that is emitted at these times."""
    return distance_km(satellite, since_rise_s) * (1e15 / LIGHT_M_PER_S)


def _phase(satellite: Satellite, since_rise_s: Numbers) -> Numbers:
    """How far along its orbit the satellite is from culmination, in radians."""
    _, omega = _orbit(satellite)
    return omega * (since_rise_s - pass_s(satellite) / 2)


def _orbit(satellite: Satellite) -> tuple[float, float]:
    """Radius in km, angular speed in rad/s."""
    radius = EARTH_KM + satellite.altitude_km
    return radius, sqrt(EARTH_GM / radius**3)


def _central_angle(elevation_deg: float, orbit_km: float) -> float:
    """Between station and satellite, in radians."""
    elevation = radians(elevation_deg)
    return acos(EARTH_KM * cos(elevation) / orbit_km) - elevation
