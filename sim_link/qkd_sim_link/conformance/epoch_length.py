"""How long an epoch of a simulated link is under the checks: long enough for them to tell.

The numbers come from what the scenario lets expect, so that a dim link is given more link time,
and a bright one no more than it needs.
"""

from dataclasses import replace
from math import ceil

from qkd_core.errors import ConfigError
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.physics.chain import expected_repeater_model
from qkd_sim_link.physics.pairs import expected_pair_model
from qkd_sim_link.sampling.event import ClickLaw
from qkd_sim_link.sampling.pairs import PairLaw
from qkd_sim_link.sampling.readings import RepeaterLaw
from qkd_sim_link.scenarios.links import TaggedScenario
from qkd_sim_link.scenarios.pairs import PairScenario
from qkd_sim_link.scenarios.pulses import Scenario

CLICKS = 4000  # of a block of pulses, up to twice as many
SHOTS = 200  # of the device's own light
# Of equal bases. The search for the clocks takes `clock.EVENTS_MIN` events of each end, and looks
# for its peak in quarters of the record.
COINCIDENCES = 2000
SHORTEST_S = 0.1  # an epoch of pairs: the search looks as far as 4.3 ms beyond each of its ends
CLICKS_MAX = 1_000_000  # of an end; there are about a hundred epochs


def steady(scenario: Scenario) -> Scenario:
    """The link in still air: the checks compare counts of equal times as Poisson ones."""
    air = scenario.free_space
    if air is None:
        return scenario
    return replace(scenario, free_space=replace(air, pointing_urad=0.0, scintillation=0.0))


def pulses_of(scenario: Scenario) -> DecoySettings:
    """A block of about `CLICKS` clicks, or of `SHOTS` of the device's own light if that is longer.

    A satellite rises meanwhile, so that a short block is not a share of the whole pass. Raises
    ConfigError for a scenario whose own block has less than half the clicks.
    """
    usual = scenario.source.settings()

    def clicks(n_pulses: int) -> float:
        return ClickLaw.of(scenario, replace(usual, n_pulses=n_pulses)).expected_clicks()

    n_pulses = usual.n_pulses
    _require_enough(scenario.name, clicks(n_pulses), CLICKS, "clicks")
    while n_pulses > 1 and clicks(n_pulses // 2) >= CLICKS:
        n_pulses //= 2
    if scenario.self_test is not None:
        shots_in = ceil(SHOTS * usual.clock_hz / scenario.self_test.rate_hz)
        n_pulses = min(usual.n_pulses, max(n_pulses, shots_in))
    return replace(usual, n_pulses=n_pulses)


def pairs_of(scenario: TaggedScenario) -> PairSettings:
    """An epoch of `COINCIDENCES` of equal bases or more.

    Raises ConfigError for a scenario whose own block has less than half as many, or that has more
    than `CLICKS_MAX` clicks meanwhile.
    """
    usual = scenario.settings
    if isinstance(scenario, PairScenario):
        model, clicks = expected_pair_model(scenario), PairLaw(scenario, usual).expected_clicks()
    else:
        model = expected_repeater_model(scenario)
        clicks = RepeaterLaw(scenario, usual).expected_clicks()
    rate_hz = model.key_rate_hz + model.test_rate_hz
    _require_enough(scenario.name, rate_hz * usual.link_s, COINCIDENCES, "coincidences")
    link_s = min(usual.link_s, max(SHORTEST_S, COINCIDENCES / rate_hz))
    clicks *= link_s / usual.link_s
    if clicks > CLICKS_MAX:
        raise ConfigError(
            f"scenario {scenario.name}: about {clicks:.3g} clicks of an end in {link_s:.3g} s with"
            f" {COINCIDENCES} coincidences: the checks take at most {CLICKS_MAX}"
        )
    return replace(usual, link_s=link_s)


def _require_enough(name: str, expected: float, wanted: int, what: str) -> None:
    if 2 * expected < wanted:
        raise ConfigError(
            f"scenario {name}: about {expected:.3g} {what} in its own block: the checks take"
            f" {wanted // 2} or more"
        )
