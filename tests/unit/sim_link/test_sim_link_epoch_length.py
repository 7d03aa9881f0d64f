"""How long the checks make an epoch of a simulated link: by what it lets expect, and no longer."""

from dataclasses import replace

import pytest

from qkd_core.errors import ConfigError
from qkd_sim_link.conformance.epoch_length import (
    CLICKS,
    COINCIDENCES,
    SHORTEST_S,
    SHOTS,
    pairs_of,
    pulses_of,
    steady,
)
from qkd_sim_link.physics.chain import expected_repeater_model
from qkd_sim_link.sampling.event import ClickLaw
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.scenarios.pulses import load


@pytest.mark.parametrize("name", ["direct-100km", "gys", "satellite-pass"])
def test_a_block_of_pulses_has_enough_clicks_and_at_most_twice_as_many(name):
    scenario = steady(load(name))
    settings = pulses_of(scenario)
    assert CLICKS <= ClickLaw.of(scenario, settings).expected_clicks() < 2 * CLICKS
    assert replace(settings, n_pulses=scenario.source.n_pulses) == scenario.source.settings()


def test_light_of_the_device_itself_makes_a_block_longer():
    scenario = load("direct-25km")
    assert scenario.self_test.rate_hz * pulses_of(scenario).link_s == pytest.approx(SHOTS)


def test_air_is_still():
    scenario = load("satellite-pass")
    air = steady(scenario).free_space
    assert (air.pointing_urad, air.scintillation) == (0.0, 0.0)
    assert air.sky_radiance == scenario.free_space.sky_radiance
    assert steady(load("gys")) == load("gys")


def test_an_epoch_of_pairs_has_enough_coincidences_of_equal_bases():
    chain = load_link("repeater-1-hop")
    model = expected_repeater_model(chain)
    expected = (model.key_rate_hz + model.test_rate_hz) * pairs_of(chain).link_s
    assert expected == pytest.approx(COINCIDENCES)
    assert pairs_of(load_link("entangled-25km")).link_s == SHORTEST_S


def test_a_link_without_light_is_refused_in_a_line():
    dark = load("gys")
    dark = replace(dark, source=replace(dark.source, n_pulses=1_000_000))
    with pytest.raises(ConfigError, match=r"gys: about 51\.\d clicks in its own block: .* 2000 or"):
        pulses_of(dark)
    pairs = load_link("entangled-25km")
    short = replace(pairs, settings=replace(pairs.settings, link_s=0.005))
    with pytest.raises(ConfigError, match="coincidences in its own block: the checks take 1000"):
        pairs_of(short)


def test_a_link_with_too_much_noise_is_refused_in_a_line():
    pairs = load_link("entangled-25km")
    noisy = replace(pairs, detector=replace(pairs.detector, dark_rate_hz=9e6))
    with pytest.raises(ConfigError, match=r"clicks of an end .*: the checks take at most 1000000"):
        pairs_of(noisy)
