"""A simulated link as a TOML file: every group of parameters names where its figures come from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from math import hypot, sqrt
from pathlib import Path
from typing import TypeVar

from qkd_core.errors import ConfigError
from qkd_core.types.plans import ONE_DECOY, TWO_DECOYS, DecoySettings
from qkd_core.types.settings_table import SettingsTable, parse
from qkd_sim_link.physics.detectors import PRESETS, Detector
from qkd_sim_link.physics.synchronisation import WORST_READING, largest_left_over_ps
from qkd_sim_link.scenarios.channels import (
    FreeSpace,
    Polarisation,
    Satellite,
    Wdm,
    read_free_space,
    read_polarisation,
    read_satellite,
    read_wdm,
)
from qkd_sim_link.scenarios.fault_kinds import Acts
from qkd_sim_link.scenarios.faults import Fault, read_faults
from qkd_sim_link.scenarios.groups import read_group

DEFAULT = "direct-25km"
PULSES, PAIRS, REPEATER, FABRIC = "pulses", "pairs", "repeater", "fabric"
KINDS = (PULSES, PAIRS, REPEATER, FABRIC)
Group = TypeVar("Group")
JITTER_LIMIT = 0.1  # of a period: a click then leaves its slot with probability below 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Alice's transmitter. ``n_pulses`` is the length of a block."""

    clock_hz: float
    intensities: tuple[float, ...]
    probabilities: tuple[float, ...]
    p_key_basis: float
    n_pulses: int
    source: str

    def __post_init__(self) -> None:
        self.settings()

    def settings(self) -> DecoySettings:
        """What both ends arm unless a planner chooses otherwise. Raises ConfigError."""
        return DecoySettings(
            clock_hz=self.clock_hz,
            n_pulses=self.n_pulses,
            intensities=self.intensities,
            probabilities=self.probabilities,
            p_key_basis=self.p_key_basis,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fibre:
    """``connector_db`` is the loss of all connectors and splices together."""

    length_km: float
    loss_db_per_km: float
    connector_db: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Bob's optics. ``misalignment_error``: a photon in the right basis takes the wrong port."""

    insertion_loss_db: float
    misalignment_error: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestSource:
    """Faint light of Bob's own that fires in random slots, about ``rate_hz`` times a second.

    ``seen``: probability that a shot at live detectors makes one of them click.
    """

    rate_hz: float
    seen: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One link. ``time_scale``: link seconds that pass per second of the wall clock, at most.

    Alice's light comes through a fibre or through free space.
    """

    name: str
    time_scale: float
    source: Source
    receiver: Receiver
    detector: Detector
    fibre: Fibre | None = None
    free_space: FreeSpace | None = None
    satellite: Satellite | None = None
    wdm: Wdm | None = None
    polarisation: Polarisation | None = None
    self_test: SelfTestSource | None = None
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if (self.fibre is None) == (self.free_space is None):
            raise ConfigError("fibre, free_space: one of the two")
        if self.wdm and not self.fibre:
            raise ConfigError("wdm: classical channels need a fibre")
        if self.satellite and not self.free_space:
            raise ConfigError("satellite: its light comes through free_space")
        self._require_slots_kept()

    def _require_slots_kept(self) -> None:
        """Raises ConfigError where clicks would often leave the slots of their pulses.

        A satellite's light that comes later, too, must leave half a period for as many deviations.
        """
        sigma, limit = self.detector.jitter_sigma_ps, JITTER_LIMIT * 1e12 / self.source.clock_hz
        if sigma > limit:
            raise ConfigError(f"jitter_sigma_ps {sigma:g}: at most a tenth of a period, {limit:g}")
        if self.satellite is None:
            return
        reading, most = self.satellite.sync_jitter_ps, sqrt(limit**2 - sigma**2) / WORST_READING
        if reading > most:
            raise ConfigError(
                f"sync_jitter_ps {reading:g}: at most {most:g}, which with jitter_sigma_ps"
                f" {sigma:g} makes a tenth of a period, {limit:g}"
            )
        late = largest_left_over_ps(self.satellite)
        room = (limit - hypot(sigma, WORST_READING * reading)) / (2 * JITTER_LIMIT)
        if late > room:
            raise ConfigError(
                f"sync_hz {self.satellite.sync_hz:g}: too slow for this orbit, whose light comes up"
                f" to {late:.4g} ps after its slot: at most {room:.4g} beside the jitter"
            )

    def require_fibre(self) -> Fibre:
        """The fibre. Raises ConfigError where there is none."""
        if self.fibre is None:
            raise ConfigError(f"scenario {self.name}: has no fibre")
        return self.fibre


def names() -> tuple[str, ...]:
    """The scenarios that are shipped."""
    shipped = (files("qkd_sim_link") / "scenarios").iterdir()
    return tuple(sorted(f.name[: -len(".toml")] for f in shipped if f.name.endswith(".toml")))


def load(name_or_path: str | Path) -> Scenario:
    """Read a shipped scenario of decoy pulses by its name, or a file by its path.

    Raises ConfigError with the file, the key, the value and what is allowed; for other kinds of
    links see `qkd_sim_link.scenarios.links`.
    """
    return read_scenario(opened(name_or_path))


def opened(name_or_path: str | Path) -> SettingsTable:
    """A shipped scenario by its name, or a file by its path (which ends in ``.toml``), as TOML.

    Raises ConfigError.
    """
    where = str(name_or_path)
    try:
        if where.endswith(".toml"):
            text = Path(where).read_text("utf-8")
        elif where in names():
            text = (files("qkd_sim_link") / "scenarios" / f"{where}.toml").read_text("utf-8")
        else:
            raise ConfigError(f"scenario {where!r}: a .toml file or one of {', '.join(names())}")
    except OSError as error:
        raise ConfigError(f"scenario {where}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"scenario {where}: not TOML: {error}") from error
    return parse(text, where)


def read_scenario(top: SettingsTable) -> Scenario:
    """The scenario of decoy pulses in ``top``. Raises ConfigError."""
    kind = top.choice("kind", KINDS, PULSES)
    if kind != PULSES:
        raise top.refuse("kind", kind, f"must be {PULSES!r} here")
    with top.checks():
        scenario = Scenario(
            name=top.text("name"),
            time_scale=top.number("time_scale", 1e-6, 1e6),
            source=_source(top.table("source")),
            receiver=_receiver(top.table("receiver")),
            detector=_detector(top.table("detector")),
            fibre=optional(top, "fibre", read_fibre),
            free_space=optional(
                top, "free_space", partial(read_free_space, fixed=not top.has("satellite"))
            ),
            satellite=optional(top, "satellite", read_satellite),
            wdm=optional(top, "wdm", read_wdm),
            polarisation=optional(top, "polarisation", read_polarisation),
            self_test=optional(top, "self_test", _self_test),
            faults=read_faults(top, Acts.PULSES),
        )
    top.finish()
    return scenario


def optional(top: SettingsTable, key: str, read: Callable[[SettingsTable], Group]) -> Group | None:
    """A table that may be left out. Raises ConfigError."""
    return read(top.table(key)) if top.has(key) else None


def _source(table: SettingsTable) -> Source:
    intensities = table.numbers("intensities", (ONE_DECOY, TWO_DECOYS), 0, 10)
    with table.checks():
        source = Source(
            clock_hz=table.number("clock_hz", 1e3, 1e11),
            intensities=intensities,
            probabilities=table.numbers("probabilities", (len(intensities),), 0, 1),
            p_key_basis=table.number("p_key_basis", 0, 1),
            n_pulses=table.integer("n_pulses", 1, 2**40),
            source=table.text("source"),
        )
    table.finish()
    return source


def read_fibre(table: SettingsTable) -> Fibre:
    """Raises ConfigError."""
    return read_group(
        table, Fibre, length_km=(0, 1000), loss_db_per_km=(0, 10), connector_db=(0, 100)
    )


def _receiver(table: SettingsTable) -> Receiver:
    return read_group(table, Receiver, insertion_loss_db=(0, 100), misalignment_error=(0, 0.5))


def _detector(table: SettingsTable) -> Detector:
    """A preset stands for whatever the table does not say."""
    base = PRESETS[table.choice("preset", tuple(PRESETS))] if table.has("preset") else None

    def number(key: str, low: float, high: float) -> float:
        return table.number(key, low, high, *((getattr(base, key),) if base else ()))

    detector = Detector(
        efficiency=number("efficiency", 0, 1),
        dark_probability_per_gate=number("dark_probability_per_gate", 0, 0.1),
        dead_time_us=number("dead_time_us", 0, 1000),
        afterpulse_probability=number("afterpulse_probability", 0, 0.5),
        afterpulse_time_us=number("afterpulse_time_us", 1e-6, 1000),
        jitter_sigma_ps=number("jitter_sigma_ps", 0, 1e6),
        mismatch=table.number("mismatch", 0, 1, 1.0),
        recovery_us=table.number("recovery_us", 0, 1000, 0.0),
        source=table.text("source", *((base.source,) if base else ())),
    )
    table.finish()
    return detector


def _self_test(table: SettingsTable) -> SelfTestSource:
    return read_group(table, SelfTestSource, rate_hz=(0, 1e6), seen=(0, 1))
