"""Simulated links of every kind, by the name or the file of their scenario."""

from collections.abc import Callable, Mapping
from pathlib import Path

from qkd_core.errors import ConfigError
from qkd_core.types.settings_table import SettingsTable
from qkd_sim_link.scenarios.fabric import FabricScenario, read_fabric_scenario
from qkd_sim_link.scenarios.fault_kinds import Acts
from qkd_sim_link.scenarios.pairs import PairScenario, read_pair_scenario
from qkd_sim_link.scenarios.pulses import (
    FABRIC,
    KINDS,
    PAIRS,
    PULSES,
    REPEATER,
    Scenario,
    opened,
    read_scenario,
)
from qkd_sim_link.scenarios.repeaters import RepeaterScenario, read_repeater_scenario

TaggedScenario = PairScenario | RepeaterScenario
"""The devices of both ends give time tags of entangled pairs."""
LinkScenario = Scenario | TaggedScenario
"""One link between two sites."""


READERS: Mapping[str, Callable[[SettingsTable], LinkScenario | FabricScenario]] = {
    PULSES: read_scenario,
    PAIRS: read_pair_scenario,
    REPEATER: read_repeater_scenario,
    FABRIC: read_fabric_scenario,
}


def load_scenario(name_or_path: str | Path) -> LinkScenario | FabricScenario:
    """As `pulses.load`, for whatever the file describes. Raises ConfigError."""
    top = opened(name_or_path)
    return READERS[top.choice("kind", KINDS, PULSES)](top)


def load_link(name_or_path: str | Path) -> LinkScenario:
    """One link. Raises ConfigError, also for a fabric, which has several."""
    scenario = load_scenario(name_or_path)
    if isinstance(scenario, FabricScenario):
        raise ConfigError(
            f"scenario {scenario.name}: a switch fabric has several links:"
            f" {', '.join(link.name for link in scenario.links)}; here one is needed"
        )
    return scenario


def acts_of(scenario: LinkScenario) -> Acts:
    """What faults find on this link."""
    if isinstance(scenario, Scenario):
        return Acts.PULSES
    return Acts.PAIRS if isinstance(scenario, PairScenario) else Acts.REPEATERS
