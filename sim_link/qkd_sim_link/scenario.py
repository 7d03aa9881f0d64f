"""A simulated link as a TOML file: every group of parameters names where its figures come from."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from qkd_core.errors import ConfigError
from qkd_core.types.plans import DecoySettings
from qkd_core.types.settings_table import SettingsTable, parse

DEFAULT = "direct-25km"
PULSES, PAIRS = "pulses", "pairs"
KINDS = (PULSES, PAIRS)
JITTER_LIMIT = 0.1  # of a period: a click then leaves its slot with probability below 1e-6


Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Alice's transmitter. ``n_pulses`` is the length of a block."""

    clock_hz: float
    intensities: Triple
    probabilities: Triple
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
class Detector:
    """Each of Bob's two gated detectors; they are alike.

    Any click gates both off for ``dead_time_us``. ``afterpulse_probability``: a click is followed
    by an afterpulse of its detector after the dead time, delayed from the end of the dead time by
    an exponential law with ``afterpulse_time_us``. ``jitter_sigma_ps`` is a standard deviation.
    """

    efficiency: float
    dark_probability_per_gate: float
    dead_time_us: float
    afterpulse_probability: float
    afterpulse_time_us: float
    jitter_sigma_ps: float
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
    """One link. ``time_scale``: link seconds that pass per second of the wall clock, at most."""

    name: str
    time_scale: float
    source: Source
    fibre: Fibre
    receiver: Receiver
    detector: Detector
    self_test: SelfTestSource | None = None

    def __post_init__(self) -> None:
        sigma, limit = self.detector.jitter_sigma_ps, JITTER_LIMIT * 1e12 / self.source.clock_hz
        if sigma > limit:
            raise ConfigError(f"jitter_sigma_ps {sigma:g}: at most a tenth of a period, {limit:g}")


def names() -> tuple[str, ...]:
    """The scenarios that are shipped."""
    shipped = (files("qkd_sim_link") / "scenarios").iterdir()
    return tuple(sorted(f.name[: -len(".toml")] for f in shipped if f.name.endswith(".toml")))


def load(name_or_path: str | Path) -> Scenario:
    """Read a shipped scenario of decoy pulses by its name, or a file by its path.

    Raises ConfigError with the file, the key, the value and what is allowed; for other kinds of
    links see `qkd_sim_link.links`.
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
            fibre=read_fibre(top.table("fibre")),
            receiver=_receiver(top.table("receiver")),
            detector=_detector(top.table("detector")),
            self_test=_self_test(top.table("self_test")) if top.has("self_test") else None,
        )
    top.finish()
    return scenario


def _source(table: SettingsTable) -> Source:
    mu1, mu2, mu3 = table.numbers("intensities", 3, 0, 10)
    p1, p2, p3 = table.numbers("probabilities", 3, 0, 1)
    with table.checks():
        source = Source(
            clock_hz=table.number("clock_hz", 1e3, 1e11),
            intensities=(mu1, mu2, mu3),
            probabilities=(p1, p2, p3),
            p_key_basis=table.number("p_key_basis", 0, 1),
            n_pulses=table.integer("n_pulses", 1, 2**40),
            source=table.text("source"),
        )
    table.finish()
    return source


def read_fibre(table: SettingsTable) -> Fibre:
    """Raises ConfigError."""
    fibre = Fibre(
        length_km=table.number("length_km", 0, 1000),
        loss_db_per_km=table.number("loss_db_per_km", 0, 10),
        connector_db=table.number("connector_db", 0, 100),
        source=table.text("source"),
    )
    table.finish()
    return fibre


def _receiver(table: SettingsTable) -> Receiver:
    receiver = Receiver(
        insertion_loss_db=table.number("insertion_loss_db", 0, 100),
        misalignment_error=table.number("misalignment_error", 0, 0.5),
        source=table.text("source"),
    )
    table.finish()
    return receiver


def _detector(table: SettingsTable) -> Detector:
    detector = Detector(
        efficiency=table.number("efficiency", 0, 1),
        dark_probability_per_gate=table.number("dark_probability_per_gate", 0, 0.1),
        dead_time_us=table.number("dead_time_us", 0, 1000),
        afterpulse_probability=table.number("afterpulse_probability", 0, 0.5),
        afterpulse_time_us=table.number("afterpulse_time_us", 1e-6, 1000),
        jitter_sigma_ps=table.number("jitter_sigma_ps", 0, 1e6),
        source=table.text("source"),
    )
    table.finish()
    return detector


def _self_test(table: SettingsTable) -> SelfTestSource:
    self_test = SelfTestSource(
        rate_hz=table.number("rate_hz", 0, 1e6),
        seen=table.number("seen", 0, 1),
        source=table.text("source"),
    )
    table.finish()
    return self_test
