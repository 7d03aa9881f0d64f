"""What travels on the link, decoy pulses or entangled pairs, and what the planner expects of it."""

from qkd_core.types.plans import (
    ONE_DECOY,
    TWO_DECOYS,
    DecoySettings,
    LinkModel,
    PairModel,
    PairSettings,
)
from qkd_core.types.settings_table import SettingsTable


def read_light(
    link: SettingsTable,
) -> tuple[DecoySettings, LinkModel] | tuple[PairSettings, PairModel]:
    """Settings and model of one kind. Raises ConfigError."""
    if link.has("pairs"):
        return _pairs(link), _pair_model(link)
    pulses = _pulses(link)
    return pulses, _model(link, len(pulses.intensities))


def _pulses(link: SettingsTable) -> DecoySettings:
    table = link.table("pulses")
    intensities = table.numbers("intensities", (ONE_DECOY, TWO_DECOYS), 0, 2)
    with table.checks():
        pulses = DecoySettings(
            clock_hz=table.number("clock_hz", 1, 1e11),
            n_pulses=table.integer("n_pulses", 1, 10**13),
            intensities=intensities,
            probabilities=table.numbers("probabilities", (len(intensities),), 0, 1),
            p_key_basis=table.number("p_key_basis", 0, 1),
        )
    table.finish()
    return pulses


def _model(link: SettingsTable, n_intensities: int) -> LinkModel:
    table = link.table("model")
    model = LinkModel(
        gain=table.numbers("gain", (n_intensities,), 0, 1),
        qber=table.numbers("qber", (n_intensities,), 0, 0.5),
        spread=table.number("spread", 0, 0.5, 0.0),
    )
    table.finish()
    return model


def _pairs(link: SettingsTable) -> PairSettings:
    if link.has("pulses"):
        raise link.refuse("pairs", "a table", "must not be beside link.pulses: a link has one kind")
    table = link.table("pairs")
    with table.checks():
        pairs = PairSettings(
            link_s=table.number("link_s", 1e-3, 3600),
            window_ps=table.integer("window_ps", 1, 10**9),
            hold_off_ps=table.integer("hold_off_ps", 1, 10**12),
            resolution_ps=table.integer("resolution_ps", 1, 10**6),
        )
    table.finish()
    return pairs


def _pair_model(link: SettingsTable) -> PairModel:
    table = link.table("model")
    model = PairModel(
        key_rate_hz=table.number("key_rate_hz", 0, 1e12),
        test_rate_hz=table.number("test_rate_hz", 0, 1e12),
        key_qber=table.number("key_qber", 0, 0.5),
        test_qber=table.number("test_qber", 0, 0.5),
    )
    table.finish()
    return model
