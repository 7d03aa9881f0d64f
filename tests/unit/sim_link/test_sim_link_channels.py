"""Formulas of channels and detectors against analytic values and published numbers."""

from dataclasses import replace
from math import exp, log, pi, sinh, sqrt

import numpy as np
import pytest

from qkd_sim_link.physics.detectors import LOAD_MAX, PRESETS, tired
from qkd_sim_link.physics.free_space import (
    beam_radius_m,
    log_normal,
    mean_pointing,
    sky_photons,
    still_transmittance,
)
from qkd_sim_link.physics.photons import photons
from qkd_sim_link.physics.polarisation import error, mean_error
from qkd_sim_link.physics.satellite import EARTH_KM, pass_s, seen_at
from qkd_sim_link.physics.wdm import (
    background_photons,
    backward_raman_w,
    crosstalk_w,
    forward_raman_w,
)
from qkd_sim_link.scenarios.channels import FreeSpace, Polarisation, Satellite, Wdm
from qkd_sim_link.scenarios.pulses import Fibre

FIBRE = Fibre(length_km=50.0, loss_db_per_km=0.21, connector_db=0.0, source="test")
WDM = Wdm(
    forward=2,
    backward=3,
    launch_dbm=0.0,
    raman_per_km_nm=2e-9,
    isolation_db=100.0,
    filter_nm=0.5,
    gate_ps=200.0,
    wavelength_nm=1550.0,
    source="test",
)
# Round figures of the satellite of Liao et al., Nature 549, 43 (2017).
BEAM = FreeSpace(
    distance_km=1200.0,
    elevation_deg=90.0,
    wavelength_nm=850.0,
    waist_m=0.0541,
    aperture_m=1.0,
    optics_db=0.0,
    pointing_urad=0.0,
    zenith_transmittance=1.0,
    scintillation=0.0,
    coherence_ms=10.0,
    sky_radiance=1e-5,
    field_of_view_urad=50.0,
    filter_nm=1.0,
    gate_ps=1000.0,
    source="test",
)
LEO = Satellite(
    altitude_km=500.0,
    max_elevation_deg=90.0,
    min_elevation_deg=10.0,
    sync_hz=1e4,
    sync_jitter_ps=100.0,
    source="test",
)


def test_a_watt_of_1550_nanometres_is_seven_point_eight_exa_photons_a_second():
    assert photons(1.0, 1550.0) == pytest.approx(7.803e18, rel=1e-4)


def test_raman_light_of_both_directions_follows_the_integral_over_the_fibre():
    # each kilometre scatters rho w of the power that passes it, and the rest of the way is lost
    attenuation = FIBRE.loss_db_per_km * log(10) / 10
    z, step = np.linspace(0, FIBRE.length_km, 200_001, retstep=True)
    scattered = 1e-3 * np.exp(-attenuation * z) * WDM.raman_per_km_nm * WDM.filter_nm
    ahead = np.trapezoid(scattered * np.exp(-attenuation * (FIBRE.length_km - z)), dx=step)
    back = np.trapezoid(scattered * np.exp(-attenuation * z), dx=step)

    assert forward_raman_w(WDM, FIBRE) == pytest.approx(ahead, rel=1e-8)
    assert backward_raman_w(WDM, FIBRE) == pytest.approx(back, rel=1e-8)


def test_backward_raman_light_is_the_published_hyperbolic_sine_of_the_output_power():
    attenuation = FIBRE.loss_db_per_km * log(10) / 10
    output = 1e-3 * exp(-attenuation * FIBRE.length_km)

    published = output * sinh(attenuation * FIBRE.length_km) / attenuation * 2e-9 * 0.5

    assert backward_raman_w(WDM, FIBRE) == pytest.approx(published, rel=1e-12)


def test_a_fibre_without_loss_scatters_alike_in_both_directions():
    fibre = replace(FIBRE, loss_db_per_km=0.0)

    assert backward_raman_w(WDM, fibre) == pytest.approx(forward_raman_w(WDM, fibre), rel=1e-12)


def test_the_background_is_that_of_every_channel():
    power = 2 * (forward_raman_w(WDM, FIBRE) + crosstalk_w(WDM, FIBRE))
    power += 3 * backward_raman_w(WDM, FIBRE)

    assert crosstalk_w(WDM, FIBRE) == pytest.approx(1e-3 * 10**-1.05 * 1e-10, rel=1e-12)
    assert background_photons(WDM, FIBRE) == pytest.approx(power * 200e-12 * 7.803e18, rel=1e-4)


def test_a_beam_of_ten_microradians_is_twelve_metres_wide_after_1200_kilometres():
    # Liao et al. 2017: 10 urad (full angle) and 12 m; 22 dB with their errors of pointing
    radius = beam_radius_m(BEAM, np.array([1200.0]))[0]
    passed = still_transmittance(BEAM, (np.array([1200.0]), np.array([90.0])))[0]

    assert 2 * radius == pytest.approx(12.0, rel=0.01)
    assert -10 * np.log10(passed) == pytest.approx(
        18.6, abs=0.1
    )  # a Gaussian beam, hit in the middle
    assert passed == pytest.approx(1 - exp(-1.0 / (2 * radius**2)), rel=1e-12)


def test_the_air_mass_is_two_at_thirty_degrees():
    hazy = replace(BEAM, zenith_transmittance=0.7)

    passed = still_transmittance(hazy, (np.array([1200.0, 1200.0]), np.array([90.0, 30.0])))

    assert passed[1] / passed[0] == pytest.approx(0.7, rel=1e-12)


def test_the_mean_over_pointing_errors_is_the_integral_over_a_rayleigh_law():
    spread = np.array([0.0, 0.1, 0.5, 2.0])
    r, step = np.linspace(0, 30, 300_001, retstep=True)

    for s, mean in zip(spread[1:], mean_pointing(spread)[1:], strict=True):
        law = r / s**2 * np.exp(-(r**2) / (2 * s**2))
        assert mean == pytest.approx(np.trapezoid(law * np.exp(-2 * r**2), dx=step), rel=1e-6)
    assert mean_pointing(spread)[0] == 1


def test_scintillation_has_mean_one_and_its_index_as_variance():
    # Gauss-Hermite quadrature over the standard normal law
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()

    factor = log_normal(nodes, 0.3)

    assert weights @ factor == pytest.approx(1, rel=1e-9)
    assert weights @ factor**2 - 1 == pytest.approx(0.3, rel=1e-9)


def test_the_sky_gives_radiance_times_solid_angle_area_filter_and_time():
    energy = 1e-5 * pi / 4 * (50e-6) ** 2 * pi / 4 * 1.0 * 1.0 * 1e-9

    assert sky_photons(BEAM) == pytest.approx(
        energy * 850e-9 / (6.62607015e-34 * 299792458), rel=1e-9
    )


def test_a_satellite_at_500_kilometres_is_as_far_as_geometry_says():
    duration = pass_s(LEO)
    sky = seen_at(LEO, np.array([0.0, duration / 2, duration]))

    orbit = EARTH_KM + 500.0
    horizon = sqrt(orbit**2 - (EARTH_KM * np.cos(np.radians(10))) ** 2)
    assert sky.elevation_deg == pytest.approx([10, 90, 10], abs=1e-6)
    assert sky.distance_km[1] == pytest.approx(500.0, rel=1e-9)
    assert sky.distance_km[0] == pytest.approx(
        horizon - EARTH_KM * np.sin(np.radians(10)), rel=1e-9
    )
    assert 400 < duration < 480  # the angle of 2 x 15.0 degrees at 7.6 km/s, seven minutes


def test_a_pass_that_culminates_lower_is_shorter_and_never_nearer():
    low = replace(LEO, max_elevation_deg=30.0)
    duration = pass_s(low)
    sky = seen_at(low, np.linspace(0, duration, 101))

    assert duration < pass_s(LEO)
    assert sky.elevation_deg.max() == pytest.approx(30.0, abs=1e-6)
    assert np.argmin(sky.distance_km) == 50


def test_doppler_shift_and_its_rate_are_derivatives_of_the_distance():
    t, step = np.linspace(1, pass_s(LEO) - 1, 20_001, retstep=True)
    sky = seen_at(LEO, t)
    speed = np.gradient(sky.distance_km, step) * 1e3

    assert sky.doppler[1:-1] == pytest.approx(-speed[1:-1] / 299792458, abs=1e-10)
    rate = np.gradient(sky.doppler, step)
    assert sky.doppler_rate[1:-1] == pytest.approx(rate[1:-1], abs=1e-11)


def test_the_greatest_doppler_of_a_low_orbit_is_some_20_parts_per_million():
    sky = seen_at(LEO, np.linspace(0, pass_s(LEO), 1001))

    v = sqrt(398600.4418 / 6871.0) * 1e3  # 7.6 km/s
    # seen from the ground under the elevation e the speed along the line is v R cos e / r
    assert sky.doppler[0] == pytest.approx(v * 6371 / 6871 * np.cos(np.radians(10)) / 299792458)
    assert 2.2e-5 < sky.doppler[0] < 2.4e-5
    # over the head: v^2 (R / r) / (h c)
    assert -sky.doppler_rate.min() == pytest.approx(v**2 * 6371 / 6871 / 5e5 / 299792458, rel=1e-3)


def test_a_turned_polarisation_errs_as_half_its_angle_says():
    assert error(np.array([0.0, pi / 2, pi])) == pytest.approx([0, 0.5, 1])


def test_the_mean_error_is_the_average_over_a_brownian_motion():
    # 20,000 paths: the standard error of the mean of an error within [0, 1] is below 0.0036
    drift = Polarisation(walk_rad_per_sqrt_s=0.3, realign_s=20.0, source="test")
    rng = np.random.default_rng(1)
    steps = rng.standard_normal((20_000, 200)) * 0.3 * sqrt(20 / 200)
    steps[:, 0] *= sqrt(0.5)

    found = error(np.cumsum(steps, axis=1)).mean(axis=1)

    assert abs(found.mean() - mean_error(drift)) < 5 * found.std() / sqrt(20_000)
    assert mean_error(replace(drift, walk_rad_per_sqrt_s=0.0)) == 0


def test_a_recovering_detector_tires_as_the_integral_over_its_survival_says():
    load = np.array([1e-3, 0.1, 1.0, 10.0, 100.0])
    for x, left in zip(load, tired(load), strict=True):
        t, step = np.linspace(0, 40 / x + 40 / sqrt(x), 2_000_001, retstep=True)
        wait = np.trapezoid(np.exp(-x * (t - 1 + np.exp(-t))), dx=step)
        assert left == pytest.approx(1 / (x * wait), rel=1e-5)


def test_a_tired_detector_is_never_better_than_a_fresh_one():
    left = tired(np.array([0.0, 0.5, 5.0, LOAD_MAX, 10 * LOAD_MAX]))

    assert left[0] == pytest.approx(1, abs=1e-9)
    assert np.all(np.diff(left) <= 0) and left[-1] > 0


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_their_sources(name):
    assert len(PRESETS[name].source) > 60
    assert 0 < PRESETS[name].efficiency < 1
