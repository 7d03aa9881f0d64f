"""What may stand between Alice and Bob beside plain fibre, as tables of a scenario."""

from dataclasses import dataclass

from qkd_core.errors import ConfigError
from qkd_core.types.settings_table import SettingsTable
from qkd_sim_link.scenarios.groups import read_group


@dataclass(frozen=True, slots=True, kw_only=True)
class Wdm:
    """Classical channels in the same fibre.

    forward, backward   how many run with the pulses and against them
    launch_dbm          power of each where it enters the fibre
    raman_per_km_nm     effective cross section of Raman scattering towards the quantum channel
    isolation_db        of the quantum channel's filter against the others
    filter_nm, gate_ps  of the light and the time that Bob's detectors take in
    """

    forward: int
    backward: int
    launch_dbm: float
    raman_per_km_nm: float
    isolation_db: float
    filter_nm: float
    gate_ps: float
    wavelength_nm: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSpace:
    """A beam from Alice's telescope to Bob's.

    distance_km, elevation_deg  of a fixed Alice as Bob sees her; a satellite has its own
    waist_m                     radius at 1/e^2 of the intensity where the beam leaves Alice
    aperture_m                  diameter of Bob's telescope
    pointing_urad               standard deviation of the pointing error in each of two directions
    zenith_transmittance        of the whole atmosphere, straight up
    scintillation               variance of the received intensity over its mean squared
    coherence_ms                time in which pointing and scintillation forget their state
    sky_radiance                W m^-2 sr^-1 nm^-1; field_of_view_urad is a full angle
    """

    distance_km: float | None
    elevation_deg: float | None
    wavelength_nm: float
    waist_m: float
    aperture_m: float
    optics_db: float
    pointing_urad: float
    zenith_transmittance: float
    scintillation: float
    coherence_ms: float
    sky_radiance: float
    field_of_view_urad: float
    filter_nm: float
    gate_ps: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Satellite:
    """Alice on a circular orbit. Each block begins when she rises above ``min_elevation_deg``.

    sync_hz         how often her synchronisation light, which Bob's clock follows, has a pulse
    sync_jitter_ps  standard deviation of Bob's measurement of when such a pulse arrives
    """

    altitude_km: float
    max_elevation_deg: float
    min_elevation_deg: float
    sync_hz: float
    sync_jitter_ps: float
    source: str

    def __post_init__(self) -> None:
        if not self.min_elevation_deg < self.max_elevation_deg:
            raise ConfigError(
                f"min_elevation_deg {self.min_elevation_deg:g}: below max_elevation_deg,"
                f" {self.max_elevation_deg:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Polarisation:
    """The state of each basis wanders on the Poincare sphere until Bob realigns it.

    walk_rad_per_sqrt_s  standard deviation of the angle after one second
    realign_s            every so often the angle is set back to nothing
    """

    walk_rad_per_sqrt_s: float
    realign_s: float
    source: str


def read_wdm(table: SettingsTable) -> Wdm:
    """Raises ConfigError."""
    wdm = Wdm(
        forward=table.integer("forward", 0, 1000),
        backward=table.integer("backward", 0, 1000),
        launch_dbm=table.number("launch_dbm", -100, 30),
        raman_per_km_nm=table.number("raman_per_km_nm", 0, 1e-6),
        isolation_db=table.number("isolation_db", 0, 300),
        filter_nm=table.number("filter_nm", 0, 1000),
        gate_ps=table.number("gate_ps", 0, 1e9),
        wavelength_nm=table.number("wavelength_nm", 100, 10_000),
        source=table.text("source"),
    )
    table.finish()
    return wdm


def read_free_space(table: SettingsTable, *, fixed: bool) -> FreeSpace:
    """``fixed``: whether Alice stands still, and so has a distance. Raises ConfigError."""
    free_space = FreeSpace(
        distance_km=table.number("distance_km", 0.001, 100_000) if fixed else None,
        elevation_deg=table.number("elevation_deg", 5, 90) if fixed else None,
        wavelength_nm=table.number("wavelength_nm", 100, 10_000),
        waist_m=table.number("waist_m", 0.001, 10),
        aperture_m=table.number("aperture_m", 0.001, 20),
        optics_db=table.number("optics_db", 0, 100),
        pointing_urad=table.number("pointing_urad", 0, 1000),
        zenith_transmittance=table.number("zenith_transmittance", 0, 1),
        scintillation=table.number("scintillation", 0, 5),
        coherence_ms=table.number("coherence_ms", 0.1, 1e6),
        sky_radiance=table.number("sky_radiance", 0, 1000),
        field_of_view_urad=table.number("field_of_view_urad", 0, 1e5),
        filter_nm=table.number("filter_nm", 0, 1000),
        gate_ps=table.number("gate_ps", 0, 1e9),
        source=table.text("source"),
    )
    table.finish()
    return free_space


def read_satellite(table: SettingsTable) -> Satellite:
    """Raises ConfigError."""
    with table.checks():
        return read_group(
            table,
            Satellite,
            altitude_km=(150, 50_000),
            max_elevation_deg=(5, 90),
            min_elevation_deg=(5, 90),
            sync_hz=(0.1, 1e6),
            sync_jitter_ps=(0, 1e6),
        )


def read_polarisation(table: SettingsTable) -> Polarisation:
    """Raises ConfigError."""
    return read_group(table, Polarisation, walk_rad_per_sqrt_s=(0, 100), realign_s=(1e-3, 1e6))
