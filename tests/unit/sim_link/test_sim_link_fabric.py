"""A switch fabric: blocking against exact counts and play, conservation of time, loss and light."""

from dataclasses import replace
from fractions import Fraction
from importlib.resources import files
from itertools import combinations
from math import comb, exp, factorial, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import ConfigError
from qkd_sim_link.physics.blocking import Clos, engset, erlang_b
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.physics.fabric import blocking, shared_links
from qkd_sim_link.scenarios.fabric import FabricScenario, Turn
from qkd_sim_link.scenarios.links import load_scenario
from qkd_sim_link.scenarios.pulses import load

NAME = "switch-3-links"
Z_MAX = 5.0  # P < 6e-7, with fixed seeds


def shipped() -> FabricScenario:
    scenario = load_scenario(NAME)
    assert isinstance(scenario, FabricScenario)
    return scenario


@given(st.floats(0.01, 50), st.integers(0, 40))
def test_erlangs_formula_is_its_sum(offered, servers):
    terms = [offered**k / factorial(k) for k in range(servers + 1)]

    assert erlang_b(offered, servers) == pytest.approx(terms[-1] / sum(terms), rel=1e-9)


def test_engsets_formula_goes_over_into_erlangs_with_many_sources():
    assert engset(100_000, 3.0 / 100_000, 5) == pytest.approx(erlang_b(3.0, 5), rel=1e-3)
    assert engset(3, 1.0, 2) == pytest.approx(0.25)  # 1 of 1 + 2 + 1 states of the two others
    assert engset(2, 5.0, 2) == 0


@pytest.mark.parametrize(("sources", "offered", "servers"), [(3, 1.0, 2), (8, 0.7, 3)])
def test_demands_that_are_played_are_lost_as_engset_says(sources, offered, servers):
    """Holding times are constant: the formula holds for any law of them."""
    rng = np.random.default_rng(5)
    next_demand, n, lost = rng.exponential(1 / offered, sources), 0, 0
    busy_until = np.zeros(sources)
    while n < 60_000:
        who = int(np.argmin(next_demand))
        now = next_demand[who]
        n += 1
        if np.sum(busy_until > now) >= servers:
            lost += 1
            next_demand[who] = now + rng.exponential(1 / offered)
            continue
        busy_until[who] = now + 1.0
        next_demand[who] = busy_until[who] + rng.exponential(1 / offered)

    share = engset(sources, offered, servers)

    # losses come in runs of at most a holding time: the spread is a few times that of coin throws
    assert abs(lost - n * share) < 3 * Z_MAX * sqrt(n * share * (1 - share))


@pytest.mark.parametrize(("busy_in", "busy_out"), [(0, 0), (2, 3), (3, 3), (4, 2), (5, 0), (1, 3)])
def test_the_blocking_of_a_clos_network_by_counting_all_busy_ways(busy_in, busy_out):
    clos, middles = Clos(inputs=5, middles=5, groups=3), range(5)
    cases = [
        set(first) | set(second) == set(middles)
        for first in combinations(middles, busy_in)
        for second in combinations(middles, busy_out)
    ]

    assert clos.blocked(busy_in, busy_out) == pytest.approx(sum(cases) / len(cases))


def test_independent_ways_give_lees_formula():
    clos, p = Clos(inputs=4, middles=5, groups=3), 0.6
    ways = [comb(5, k) * p**k * (1 - p) ** (5 - k) for k in range(6)]
    average = sum(ways[i] * ways[j] * clos.blocked(i, j) for i in range(6) for j in range(6))

    assert clos.blocked_on_average(p * 5 / 4) == pytest.approx(average)


@given(st.integers(1, 12), st.integers(2, 6))
def test_a_clos_network_never_blocks_from_2n_minus_1_middle_switches(inputs, groups):
    enough = Clos(inputs=inputs, middles=2 * inputs - 1, groups=groups)

    assert enough.never_blocks
    assert enough.blocked(inputs - 1, inputs - 1) == 0
    if inputs > 1:
        less = Clos(inputs=inputs, middles=2 * inputs - 2, groups=groups)
        assert not less.never_blocks
        assert less.blocked(inputs - 1, inputs - 1) > 0


def test_a_large_clos_network_has_fewer_crosspoints_than_a_crossbar():
    clos = Clos(inputs=16, middles=31, groups=16)

    assert clos.ports == 256
    assert clos.crosspoints == 2 * 16 * 16 * 31 + 31 * 16**2
    assert clos.crosspoints < clos.ports**2
    with pytest.raises(ConfigError, match="middles 3: at least as many as inputs, 4"):
        Clos(inputs=4, middles=3, groups=2)


def test_the_time_of_each_link_and_of_the_bank_is_conserved():
    fabric = shipped()

    links = shared_links(fabric)

    for link in links:
        assert link.served + link.settling + link.waiting == pytest.approx(1)
        assert min(link.served, link.settling, link.waiting) > 0
    in_use = sum(link.served + link.settling for link in links)
    assert in_use == pytest.approx(
        sum(len(t.links) * t.seconds for t in fabric.turns) / fabric.cycle_s
    )
    assert in_use <= fabric.bank.at_once + 1e-12


def test_a_link_that_stays_connected_is_not_dark():
    fabric = shipped()
    turns = (
        Turn(links=("north", "east"), seconds=1.0),
        Turn(links=("north", "south"), seconds=3.0),
    )

    north, east, south = shared_links(replace(fabric, turns=turns))

    assert (north.served, north.settling) == (1.0, 0.0)
    assert east.served == pytest.approx((1 - 0.025) / 4)
    assert south.settling == pytest.approx(0.025 / 4)


def test_loss_and_light_of_the_neighbours_are_those_of_the_law():
    """North beside east all the time: as many photons as the formula says, and as dark counts."""
    fabric = shipped()
    turns = (Turn(links=("north", "east"), seconds=9.0), Turn(links=("south",), seconds=1.0))
    fabric = replace(fabric, turns=turns, switch=replace(fabric.switch, isolation_db=20.0))
    base, source = load("direct-25km"), load("direct-25km").source
    mean = sum(p * mu for p, mu in zip(source.probabilities, source.intensities, strict=True))

    north, east, south = shared_links(fabric)

    loss_db = 2 * 3 * 0.7 + 20.0 + base.receiver.insertion_loss_db
    fibres = 10 ** (-0.1 * (0.2 * 10 + 1)) + 10 ** (-0.1 * (0.2 * 20 + 1))
    photons = mean * fibres * base.detector.efficiency * 10 ** (-0.1 * loss_db)
    assert north.background == pytest.approx(photons)
    assert east.background == pytest.approx(photons)
    assert south.background == 0
    dark = base.detector.dark_probability_per_gate
    lit = north.scenario.detector.dark_probability_per_gate
    assert log((1 - dark) / (1 - lit)) == pytest.approx(photons / 2, rel=1e-6)
    added = north.scenario.receiver.insertion_loss_db - base.receiver.insertion_loss_db
    assert added == pytest.approx(north.loss_db) == pytest.approx(4.2)
    assert lit > dark
    assert exp(-photons) < 1


def test_each_link_has_a_decoy_scenario_of_its_own():
    fabric = shipped()
    gains = []
    for link, sharing in zip(shared_links(fabric), fabric.links, strict=True):
        scenario = link.scenario
        assert scenario.fibre == sharing.fibre
        assert scenario.time_scale == pytest.approx(fabric.base.time_scale * link.served)
        assert scenario.name == f"{NAME}/{link.name}"
        assert scenario.source == fabric.base.source
        gains.append(expected_model(scenario).gain[0])
    assert gains == sorted(gains, reverse=True)  # 10, 20 and 30 km
    alone = replace(fabric.base, fibre=fabric.links[0].fibre)
    assert gains[0] < expected_model(alone).gain[0]


def test_random_demands_are_refused_as_the_formulas_say():
    fabric = shipped()

    found = blocking(fabric)

    assert found.bank == pytest.approx(0.25)
    assert found.switch == 0
    narrow = replace(fabric.switch, clos=Clos(inputs=4, middles=4, groups=4))
    quarter = 1 - (1 - 0.25) ** 2  # four of sixteen ports are busy, and as many ways
    assert blocking(replace(fabric, switch=narrow)).switch == pytest.approx(quarter**4)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('links = ["north", "east"]', 'links = ["north", "west"]', "a turn of north, west: each o"),
        ('links = ["north", "east"]', 'links = ["north", "north"]', "a turn of north, north: each"),
        ("transmitters = 2", "transmitters = 1", "a turn of north, east: the bank serves 1 at onc"),
        (
            "reconfiguration_ms = 25.0",
            "reconfiguration_ms = 6e3",
            "5 s, more than the 6 s that the",
        ),
        ('name = "south"', 'name = "north"', "links north, east, north: at least one, each of an"),
        ("groups = 4", "groups = 1", "a switch of 4 ports: 5 are needed"),
        ("middles = 7", "middles = 2", "middles 2: at least as many as inputs, 4"),
        (
            'base = "direct-25km"',
            'base = "entangled-25km"',
            "kind = 'pairs': must be 'pulses' here",
        ),
        ("demands = 1.0", "demand = 1.0", "bank.demands is missing"),
    ],
)
def test_an_error_names_file_key_value_and_what_is_allowed(tmp_path, old, new, told):
    text = (files("qkd_sim_link") / "scenarios" / f"{NAME}.toml").read_text()
    path = tmp_path / "broken.toml"
    path.write_text(text.replace(old, new, 1))

    with pytest.raises(ConfigError) as error:
        load_scenario(path)

    assert str(path) in str(error.value) or "entangled-25km" in str(error.value)
    assert told in str(error.value)


def test_a_link_that_is_never_served_is_refused():
    with pytest.raises(ConfigError, match="south is never served"):
        replace(shipped(), turns=(Turn(links=("north", "east"), seconds=1.0),))


def test_every_group_names_its_source():
    fabric = shipped()
    groups = (fabric.switch, fabric.bank, *(link.fibre for link in fabric.links))
    assert all(len(group.source) > 5 for group in groups)


def test_shares_are_exact_fractions_of_the_cycle():
    fabric = shipped()
    for link in shared_links(fabric):
        dark = Fraction(25, 1000)
        assert link.served == pytest.approx(float((2 * Fraction(5) - dark) / 15), rel=1e-12)
