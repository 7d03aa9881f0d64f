"""Devices of a chain of repeaters: settings, clocks, faults; and which scenario is what.

Counts are compared as standard normal numbers below 5: P < 6e-7 for each, with fixed seeds.
"""

from dataclasses import replace
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Side
from qkd_sim_link.attacks.time_shift import TimeShift
from qkd_sim_link.physics.chain import Chain
from qkd_sim_link.physics.repeater_faults import strained_chain
from qkd_sim_link.scenarios.faults import told_fault
from qkd_sim_link.scenarios.links import acts_of, load_link
from qkd_sim_link.scenarios.pulses import DEFAULT, load
from qkd_sim_link.scenarios.repeaters import RepeaterScenario
from qkd_sim_link.serving.devices import BlockDraw, RepeaterDevices, devices_of


def shipped() -> RepeaterScenario:
    scenario = load_link("repeater-1-hop")
    assert isinstance(scenario, RepeaterScenario)
    return replace(scenario, settings=replace(scenario.settings, link_s=1.0))


def test_settings_that_the_devices_cannot_have_are_refused():
    devices = RepeaterDevices(shipped(), seed=3)

    with pytest.raises(LinkDown, match="share entangled pairs"):
        devices.block(load(DEFAULT).source.settings())
    with pytest.raises(LinkDown, match="link_s 4000"):
        devices.block(replace(shipped().settings, link_s=4000.0))
    with pytest.raises(LinkDown, match="no light of their own"):
        devices.shots(shipped().settings, 1)


def test_one_clock_runs_on_between_blocks():
    draws = RepeaterDevices(shipped(), seed=3).block(shipped().settings)
    firsts = []
    for begun_s in (0.0, 10.0, 25.0):
        tags = draws(BlockDraw(BlockId(1), 5, begun_s))
        firsts.append({side: int(tags[side][0][0]) for side in Side})

    slack = 2 * shipped().clock.start_skew_ms * 1e9 + 5e10  # and the first reading's time
    for (before, later), seconds in zip(pairwise(firsts), (10, 15), strict=True):
        for side in Side:
            assert later[side] - before[side] == pytest.approx(seconds * 1e12, abs=slack)


def test_loss_at_an_end_takes_its_clicks_and_leaves_those_of_the_other():
    scenario = shipped()
    draws = RepeaterDevices(scenario, seed=3).block(scenario.settings)
    fault = told_fault("loss-step", {"db": 3.0, "end": "b"})

    well, ill = (draws(BlockDraw(BlockId(1), 5, 0.0, faults)) for faults in ((), (fault,)))

    n = ill[Side.A][0].size
    assert abs(n - well[Side.A][0].size) < 5 * sqrt(2 * n)
    share = well[Side.B][0].size * 10**-0.3
    assert abs(ill[Side.B][0].size - share) < 5 * sqrt(2 * share)


def test_stations_out_of_step_cost_fidelity_and_no_heralds():
    """repeater-desync: further apart from second to second, V = V0 exp(-(dt / tc)^2)."""
    scenario = shipped()
    fault = told_fault("repeater-desync", {"apart_ps": 900.0, "ps_per_s": 10.0})

    later = strained_chain(scenario, [fault], 100.0)

    assert later.station.apart_ps == 100.0 + 900.0 + 1000.0
    before, after = Chain.of(scenario), Chain.of(later)
    assert after.link.success == before.link.success
    lost = np.exp(-((100.0 / 5000.0) ** 2)) / np.exp(-((2000.0 / 5000.0) ** 2))
    links = [(4 * chain.link.state.fidelity - 1) / 3 for chain in (before, after)]
    assert links[0] / links[1] == pytest.approx(lost)
    assert after.pair.key_error > before.pair.key_error + 0.05


def test_more_dark_counts_at_the_stations_are_false_heralds():
    scenario = shipped()
    fault = told_fault("dark-rise", {"factor": 1e4})

    dark = Chain.of(strained_chain(scenario, [fault], 0.5))

    assert dark.link.false_share > 100 * Chain.of(scenario).link.false_share
    over = strained_chain(scenario, [replace(fault, end_s=0.4)], 0.5)
    assert over.station == scenario.station


def test_an_attack_on_pulses_is_none_on_repeaters():
    eve = TimeShift.__new__(TimeShift)
    with pytest.raises(ConfigError, match="TimeShift is no attack on a link of this kind"):
        devices_of(shipped(), 1, eve)


def test_a_fabric_is_not_one_link_and_says_which_it_has():
    with pytest.raises(ConfigError, match="switch-3-links: a switch fabric has several links: nor"):
        load_link("switch-3-links")


def test_faults_of_a_chain_are_read_from_its_scenario(tmp_path):
    from importlib.resources import files

    text = (files("qkd_sim_link") / "scenarios" / "repeater-1-hop.toml").read_text()
    path = tmp_path / "ill.toml"
    fault = '\n[[faults]]\nkind = "{}"\nstart_s = 5.0\n'
    path.write_text(text + fault.format("repeater-desync") + "apart_ps = 300.0\n")

    scenario = load_link(path)

    assert isinstance(scenario, RepeaterScenario)
    assert [each.kind for each in scenario.faults] == ["repeater-desync"]
    assert acts_of(scenario) == "repeaters"
