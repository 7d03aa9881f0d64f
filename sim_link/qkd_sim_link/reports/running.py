"""A scenario of any kind, simulated for a while."""

from pathlib import Path

from qkd_sim_link.reports.asked import Asked
from qkd_sim_link.reports.fabric import FabricRun, run_fabric
from qkd_sim_link.reports.pairs import PairRun, run_pairs
from qkd_sim_link.reports.pulses import PulseRun, run_pulses
from qkd_sim_link.reports.repeaters import RepeaterRun, run_repeaters
from qkd_sim_link.scenarios.fabric import FabricScenario
from qkd_sim_link.scenarios.links import load_scenario
from qkd_sim_link.scenarios.pairs import PairScenario
from qkd_sim_link.scenarios.repeaters import RepeaterScenario

Run = PulseRun | PairRun | RepeaterRun | FabricRun


def run(name_or_path: str | Path, asked: Asked) -> Run:
    """Raises ConfigError; ClockNotFound where blocks of pairs are too short to find a clock in."""
    scenario = load_scenario(name_or_path)
    if isinstance(scenario, FabricScenario):
        return run_fabric(scenario, asked)
    if isinstance(scenario, RepeaterScenario):
        return run_repeaters(scenario, asked)
    if isinstance(scenario, PairScenario):
        return run_pairs(scenario, asked)
    return run_pulses(scenario, asked)
