"""A simulated link of entangled pairs: what its TOML file holds."""

from dataclasses import dataclass
from math import hypot, sqrt

from qkd_core.errors import ConfigError
from qkd_core.types.plans import PairSettings
from qkd_core.types.settings_table import SettingsTable
from qkd_sim_link.scenarios.fault_kinds import Acts
from qkd_sim_link.scenarios.faults import Fault, read_faults
from qkd_sim_link.scenarios.groups import read_group
from qkd_sim_link.scenarios.pulses import Fibre, optional, read_fibre

PS_PER_NS = 1000
SIGMAS = 6.0  # beyond them a Gaussian is nothing
PAIRS_MAX = 100  # of a pulse: far beyond what makes a key
SHORT_SIGMAS = 3.5  # to each side of a window: 5e-4 of a pulse's coincidences are beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSource:
    """Pairs at random times, or in pulses. The errors: outcomes of a basis differ, of one pair."""

    pair_rate_hz: float
    key_error: float
    test_error: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PumpPulses:
    """The pump comes in pulses, and so do the pairs; ``pair_rate_hz`` is their mean rate.

    ``modes``: how many modes of time and spectrum share the pairs of one polarisation (Schmidt
    number). ``width_sigma_ps``: standard deviation of when a pair is made within its pulse.
    """

    rate_hz: float
    modes: float
    width_sigma_ps: float
    source: str

    @property
    def period_ps(self) -> float:
        return 1e12 / self.rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReceiver:
    """What a photon passes at either end, besides fibre and detector.

    ``coupling_db``: from the crystal into the fibre. A passive splitter sends it to the key basis
    with ``p_key_basis``.
    """

    coupling_db: float
    insertion_loss_db: float
    p_key_basis: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDetector:
    """Each of the four detectors of an end; a click makes this one blind for ``dead_time_ns``."""

    efficiency: float
    dark_rate_hz: float
    dead_time_ns: float
    jitter_sigma_ps: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BobClock:
    """Bob's clock by Alice's, which is taken as true.

    ``offset_ms`` at the beginning; ``drift_ppm`` of its rate, which walks at random by ``wander``
    in a second. The ends' records begin at most ``start_skew_ms`` apart.
    """

    offset_ms: float
    drift_ppm: float
    wander: float
    start_skew_ms: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScenario:
    """One link of pairs. ``time_scale`` as `Scenario` has it; ``block_source``: of ``settings``.

    ``pulses`` None means a pump that is on all the time.
    """

    name: str
    time_scale: float
    source: PairSource
    fibre_a: Fibre
    fibre_b: Fibre
    receiver: PairReceiver
    detector: PairDetector
    clock: BobClock
    settings: PairSettings
    block_source: str
    pulses: PumpPulses | None = None
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if self.settings.hold_off_ps < PS_PER_NS * self.detector.dead_time_ns:
            raise ConfigError(
                f"hold_off_ns {self.settings.hold_off_ps / PS_PER_NS:g}: at least dead_time_ns,"
                f" {self.detector.dead_time_ns:g}"
            )
        if self.pulses is not None:
            self._require_pulses_fit(self.pulses)

    def _require_pulses_fit(self, pulses: PumpPulses) -> None:
        """Raises ConfigError."""
        if self.source.pair_rate_hz > PAIRS_MAX * pulses.rate_hz:
            raise ConfigError(
                f"pair_rate_hz {self.source.pair_rate_hz:g}: at most {PAIRS_MAX} pairs in each of"
                f" {pulses.rate_hz:g} pulses a second"
            )
        jitter_ps = hypot(self.detector.jitter_sigma_ps, pulses.width_sigma_ps)
        most = pulses.period_ps - SIGMAS * sqrt(2) * jitter_ps
        if self.settings.window_ps > most:
            raise ConfigError(
                f"window_ps {self.settings.window_ps}: at most {most:.0f}, so that it takes in no"
                f" other pulse of a period of {pulses.period_ps:g}"
            )
        least = 2 * SHORT_SIGMAS * sqrt(2) * jitter_ps
        if pulses.width_sigma_ps and self.settings.window_ps < least:
            raise ConfigError(
                f"window_ps {self.settings.window_ps}: at least {least:.0f}, so that it takes in"
                f" the light of a pulse of width_sigma_ps {pulses.width_sigma_ps:g}"
            )


def read_pair_scenario(top: SettingsTable) -> PairScenario:
    """The scenario in ``top``. Raises ConfigError."""
    settings, block_source = read_block(top.table("block"))
    with top.checks():
        scenario = PairScenario(
            name=top.text("name"),
            time_scale=top.number("time_scale", 1e-6, 1e6),
            source=_source(top.table("source")),
            pulses=optional(top, "pulses", _pulses),
            fibre_a=read_fibre(top.table("fibre_a")),
            fibre_b=read_fibre(top.table("fibre_b")),
            receiver=_receiver(top.table("receiver")),
            detector=read_detector(top.table("detector")),
            clock=read_clock(top.table("clock")),
            settings=settings,
            block_source=block_source,
            faults=read_faults(top, Acts.PAIRS),
        )
    top.finish()
    return scenario


def _source(table: SettingsTable) -> PairSource:
    return read_group(
        table, PairSource, pair_rate_hz=(0, 1e10), key_error=(0, 0.5), test_error=(0, 0.5)
    )


def _pulses(table: SettingsTable) -> PumpPulses:
    return read_group(
        table, PumpPulses, rate_hz=(1e3, 1e11), modes=(1, 1e6), width_sigma_ps=(0, 1e5)
    )


def _receiver(table: SettingsTable) -> PairReceiver:
    return read_group(
        table,
        PairReceiver,
        coupling_db=(0, 100),
        insertion_loss_db=(0, 100),
        p_key_basis=(0, 1),
    )


def read_detector(table: SettingsTable) -> PairDetector:
    return read_group(
        table,
        PairDetector,
        efficiency=(0, 1),
        dark_rate_hz=(0, 1e7),
        dead_time_ns=(0, 1e6),
        jitter_sigma_ps=(0, 1e5),
    )


def read_clock(table: SettingsTable) -> BobClock:
    return read_group(
        table,
        BobClock,
        offset_ms=(-1e6, 1e6),
        drift_ppm=(-1000, 1000),
        wander=(0, 1e-3),
        start_skew_ms=(0, 1000),
    )


def read_block(table: SettingsTable) -> tuple[PairSettings, str]:
    with table.checks():
        settings = PairSettings(
            link_s=table.number("link_s", 1e-3, 1e4),
            window_ps=table.integer("window_ps", 1, 10**9),
            hold_off_ps=round(PS_PER_NS * table.number("hold_off_ns", 0, 1e6)),
            resolution_ps=table.integer("resolution_ps", 1, 10**6),
        )
    source = table.text("source")
    table.finish()
    return settings, source
