"""Simulated links of every kind, by the name or the file of their scenario."""

from pathlib import Path

from qkd_sim_link.pair_scenario import PairScenario, read_pair_scenario
from qkd_sim_link.scenario import KINDS, PAIRS, PULSES, Scenario, opened, read_scenario


def load_link(name_or_path: str | Path) -> Scenario | PairScenario:
    """As `scenario.load`, for the kind of link that the file names. Raises ConfigError."""
    top = opened(name_or_path)
    if top.choice("kind", KINDS, PULSES) == PAIRS:
        return read_pair_scenario(top)
    return read_scenario(top)
