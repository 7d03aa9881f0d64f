"""Choosing settings: never worse than those to begin with, and the laws of any good choice."""

from dataclasses import replace
from math import hypot

import pytest

from qkd_core.errors import PlanRefused
from qkd_core.proofs.nelder_mead import climb
from qkd_core.proofs.plan import PlanRequest, plan_block
from qkd_core.proofs.planner import AUTHENTICATION_BITS, Link, optimised, outlook
from qkd_core.proofs.terms import Terms, disclosed_on_paper
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import PairSettings, SecurityPolicy
from qkd_core.types.reconciliation import Method, Reconciliation
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenario import load

SHORT = 150_000_000  # pulses: the scenario's own settings give no key
CASCADE = Reconciliation(method=Method.CASCADE, variant="fast4", frame_bits=1 << 16)
SCENARIO = load("direct-25km")


def link(n_pulses=SHORT, length_km=25.0, **terms):
    scenario = replace(SCENARIO, fibre=replace(SCENARIO.fibre, length_km=length_km))
    held = {
        "link_id": LinkId("a-b"),
        "settings": replace(scenario.source.settings(), n_pulses=n_pulses),
        "policy": SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01),
        "segment_pads": 0,
        "config_digest": "",
    }
    return Link(
        terms=Terms(**held | terms),
        model=lambda settings: expected_model(scenario, settings),
        correction=lambda *_: CASCADE,
        disclosed_expected=disclosed_on_paper,
    )


def best(link):
    return optimised(link, lambda *_: None)


@pytest.fixture(scope="module")
def found():
    """The best settings by length of block and of fibre."""
    cases = ((SHORT, 25.0), (10**9, 25.0), (10**9, 60.0))
    return {case: best(link(*case)) for case in cases}


def test_the_choice_is_better_than_the_scenario_and_better_than_its_neighbours(found):
    chosen = found[10**9, 25.0]

    own = outlook(link(10**9), link(10**9).terms.settings)
    assert chosen.n_secret > 1.05 * own.n_secret
    mu1, mu2, mu3 = chosen.settings.intensities
    p1, p2, p3 = chosen.settings.probabilities
    for change in (
        {"intensities": (1.3 * mu1, mu2, mu3)},
        {"intensities": (0.75 * mu1, mu2, mu3)},
        {"intensities": (mu1, 1.3 * mu2, mu3)},
        {"intensities": (mu1, 0.75 * mu2, mu3)},
        {"probabilities": (2 * p1, p2 - p1, p3)},
        {"probabilities": (p1, p2 + p3 / 2, p3 / 2)},
        {"p_key_basis": chosen.settings.p_key_basis - 0.07},
        {"p_key_basis": chosen.settings.p_key_basis + 0.07},
    ):
        other = outlook(link(10**9), replace(chosen.settings, **change))
        assert other.length < 1.001 * chosen.length


def test_longer_blocks_give_more_key_per_pulse_and_a_longer_fibre_less(found):
    short, long, far = found[SHORT, 25.0], found[10**9, 25.0], found[10**9, 60.0]

    assert long.net_bits / 10**9 > short.net_bits / SHORT > 0
    assert long.net_bits > far.net_bits > 0


def test_an_outlook_is_what_an_engine_would_plan_and_what_it_leaves(found):
    chosen = found[SHORT, 25.0]
    own = link()

    plan = plan_block(
        PlanRequest(
            terms=replace(own.terms, settings=chosen.settings),
            block_id=BlockId(1),
            provenance=Provenance.DEVICE,
            reconciliation=CASCADE,
            disclosed_expected=disclosed_on_paper,
            model=own.model(chosen.settings),
        )
    )

    assert plan == chosen.plan
    assert plan.n_secret == chosen.n_secret
    assert chosen.net_bits == pytest.approx(0.99 * chosen.n_secret - AUTHENTICATION_BITS)
    assert chosen.net_rate_hz == pytest.approx(chosen.net_bits * 10**9 / SHORT)


def test_what_is_chosen_can_be_set(found):
    for chosen in found.values():
        settings = chosen.settings
        assert settings.intensities[2] == SCENARIO.source.intensities[2]
        assert all(float(f"{mu:.4g}") == mu for mu in settings.intensities)
        assert all(round(p, 4) == p for p in settings.probabilities)


def test_key_is_found_where_the_scenario_has_none(found):
    """Blocks of 0.15 s: only other settings give key, met on the way down from longer ones."""
    assert outlook(link(), link().terms.settings).n_secret == 0
    assert found[SHORT, 25.0].n_secret > 2_000


def test_a_link_without_key_is_refused_in_one_line():
    with pytest.raises(PlanRefused, match="no settings give key"):
        best(link(10**5))
    with pytest.raises(PlanRefused, match="no settings give key: the error rate may reach"):
        best(link(length_km=300.0))
    pairs = PairSettings(link_s=1.0, window_ps=500, hold_off_ps=10_000, resolution_ps=10)
    with pytest.raises(PlanRefused, match="decoy"):
        best(link(settings=pairs))


def test_a_climb_finds_the_top_of_a_bent_ridge():
    """Rosenbrock's valley, upside down: its top is at (1, 1)."""

    def value(point):
        x, y = point
        return -((1 - x) ** 2) - 100 * (y - x * x) ** 2

    height, at = climb(value, (-1.2, 1.0), 0.5, 400)

    assert hypot(at[0] - 1, at[1] - 1) < 1e-3
    assert height == value(at)


def test_a_climb_stays_where_the_value_is_defined():
    def value(point):
        return -abs(point[0] - 3) if point[0] < 2 else float("-inf")

    height, at = climb(value, (0.0, 0.0), 0.5, 200)

    assert 1.9 < at[0] < 2
    assert height == value(at)
