"""A simulated link as a TOML file: every group of parameters names where its figures come from."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from math import isfinite
from pathlib import Path
from tomllib import TOMLDecodeError, loads
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from qkd_core.errors import ConfigError
from qkd_core.types.blocks import DecoySettings

DEFAULT = "direct-25km"
JITTER_LIMIT = 0.1  # of a period: a click then leaves its slot with probability below 1e-6
Group = TypeVar("Group")


@dataclass(frozen=True, slots=True)
class Within:
    """The values that a number may have, both ends included."""

    low: float
    high: float


Probability = Annotated[float, Within(0, 1)]
Decibel = Annotated[float, Within(0, 100)]
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Alice's transmitter. ``n_pulses`` is the length of a block."""

    clock_hz: Annotated[float, Within(1e3, 1e11)]
    intensities: Annotated[Triple, Within(0, 10)]
    probabilities: Annotated[Triple, Within(0, 1)]
    p_key_basis: Probability
    n_pulses: Annotated[int, Within(1, 2**40)]
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

    length_km: Annotated[float, Within(0, 1000)]
    loss_db_per_km: Annotated[float, Within(0, 10)]
    connector_db: Decibel
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Bob's optics. ``misalignment_error``: a photon in the right basis takes the wrong port."""

    insertion_loss_db: Decibel
    misalignment_error: Annotated[float, Within(0, 0.5)]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """Each of Bob's two gated detectors; they are alike.

    Any click gates both off for ``dead_time_us``. ``afterpulse_probability``: a click is followed
    by an afterpulse of its detector after the dead time, delayed from the end of the dead time by
    an exponential law with ``afterpulse_time_us``. ``jitter_sigma_ps`` is a standard deviation.
    """

    efficiency: Probability
    dark_probability_per_gate: Annotated[float, Within(0, 0.1)]
    dead_time_us: Annotated[float, Within(0, 1000)]
    afterpulse_probability: Annotated[float, Within(0, 0.5)]
    afterpulse_time_us: Annotated[float, Within(1e-6, 1000)]
    jitter_sigma_ps: Annotated[float, Within(0, 1e6)]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One link. ``time_scale``: link seconds that pass per second of the wall clock, at most."""

    name: str
    time_scale: Annotated[float, Within(1e-6, 1e6)]
    source: Source
    fibre: Fibre
    receiver: Receiver
    detector: Detector

    def __post_init__(self) -> None:
        sigma, limit = self.detector.jitter_sigma_ps, JITTER_LIMIT * 1e12 / self.source.clock_hz
        if sigma > limit:
            raise ConfigError(f"jitter_sigma_ps {sigma:g}: at most a tenth of a period, {limit:g}")


def names() -> tuple[str, ...]:
    """The scenarios that are shipped."""
    shipped = (files("qkd_sim_link") / "scenarios").iterdir()
    return tuple(sorted(f.name[: -len(".toml")] for f in shipped if f.name.endswith(".toml")))


def load(name_or_path: str | Path) -> Scenario:
    """Read a shipped scenario by its name, or a file by its path (which ends in ``.toml``).

    Raises ConfigError with the file, the key, the value and what is allowed.
    """
    where = str(name_or_path)
    try:
        if where.endswith(".toml"):
            text = Path(where).read_text(encoding="utf-8")
        elif where in names():
            text = (files("qkd_sim_link") / "scenarios" / f"{where}.toml").read_text("utf-8")
        else:
            raise ConfigError(f"scenario {where!r}: a .toml file or one of {', '.join(names())}")
        table = loads(text)
    except OSError as error:
        raise ConfigError(f"scenario {where}: cannot be read ({error.strerror})") from error
    except (TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"scenario {where}: not TOML: {error}") from error
    return _group(Scenario, table, where)


def _group(kind: type[Group], table: Mapping[str, Any], where: str) -> Group:
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; allowed: {', '.join(known)}")
    for key in known:
        if key not in table:
            raise ConfigError(f"{where}: key {key!r} is missing")
    hints = get_type_hints(kind, include_extras=True)
    values = {key: _value(hints[key], table[key], f"{where}: {key}") for key in known}
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) is Annotated:
        plain, within = get_args(hint)
        if plain == Triple:
            return _triple(within, value, where)
        return _number(plain, within, value, where)
    if hint is str:
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{where} = {value!r}: must be a text that is not empty")
        return value
    if not isinstance(value, dict):
        raise ConfigError(f"{where} = {value!r}: must be a table")
    return _group(hint, value, where)


def _number(kind: type[int] | type[float], within: Within, value: Any, where: str) -> float:
    allowed = int if kind is int else (int, float)
    name = "an integer" if kind is int else "a number"
    fits = isinstance(value, allowed) and not isinstance(value, bool) and isfinite(value)
    if not fits or not within.low <= value <= within.high:
        raise ConfigError(
            f"{where} = {value!r}: must be {name} from {within.low:g} to {within.high:g}"
        )
    return kind(value)


def _triple(within: Within, value: Any, where: str) -> Triple:
    if not isinstance(value, list) or len(value) != len(get_args(Triple)):
        raise ConfigError(f"{where} = {value!r}: must be a list of three numbers")
    first, second, third = (_number(float, within, item, where) for item in value)
    return first, second, third
