"""Choosing settings: never worse than those to begin with, and the laws of any good choice."""

from dataclasses import replace
from math import hypot
from random import Random

import pytest

from qkd_core.errors import PlanRefused
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.proofs.ahead import Ahead
from qkd_core.proofs.nelder_mead import climb
from qkd_core.proofs.outlook import AUTHENTICATION_BITS
from qkd_core.proofs.plan import PlanRequest, plan_block
from qkd_core.proofs.planner import Link, optimised, outlook, with_decoys
from qkd_core.proofs.terms import Terms
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import DecoySettings, PairSettings, SecurityPolicy
from qkd_core.types.reconciliation import Method, Reconciliation
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import load

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
    ahead = Ahead(
        terms=Terms(**held | terms),
        correction=lambda *_: CASCADE,
        disclosed_expected=disclosed_expected,
    )
    return Link(ahead=ahead, model=lambda settings: expected_model(scenario, settings))


def best(link):
    return optimised(link, lambda *_: None)


@pytest.fixture(scope="module")
def found():
    """The best settings by length of block and of fibre."""
    cases = ((SHORT, 25.0), (10**9, 25.0), (10**9, 60.0))
    return {case: best(link(*case)) for case in cases}


@pytest.fixture(scope="module")
def one_decoy():
    """The best settings with one decoy, from those of the scenario without its dimmest."""
    return best(link(10**9, settings=with_decoys(link(10**9).settings, 1)))


def test_the_choice_is_better_than_the_scenario_and_better_than_its_neighbours(found):
    chosen = found[10**9, 25.0]

    own = outlook(link(10**9), link(10**9).settings)
    assert chosen.n_secret > 1.05 * own.n_secret
    mu1, mu2, mu3 = chosen.plan.settings.intensities
    p1, p2, p3 = chosen.plan.settings.probabilities
    for change in (
        {"intensities": (1.3 * mu1, mu2, mu3)},
        {"intensities": (0.75 * mu1, mu2, mu3)},
        {"intensities": (mu1, 1.3 * mu2, mu3)},
        {"intensities": (mu1, 0.75 * mu2, mu3)},
        {"probabilities": (2 * p1, p2 - p1, p3)},
        {"probabilities": (p1, p2 + p3 / 2, p3 / 2)},
        {"p_key_basis": chosen.plan.settings.p_key_basis - 0.07},
        {"p_key_basis": chosen.plan.settings.p_key_basis + 0.07},
    ):
        other = outlook(link(10**9), replace(chosen.plan.settings, **change))
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
            terms=replace(own.ahead.terms, settings=chosen.plan.settings),
            block_id=BlockId(1),
            provenance=Provenance.DEVICE,
            reconciliation=CASCADE,
            disclosed_expected=disclosed_expected,
            model=own.model(chosen.plan.settings),
        )
    )

    assert plan == chosen.plan
    assert plan.n_secret == chosen.n_secret
    assert chosen.net_bits == pytest.approx(0.99 * chosen.n_secret - AUTHENTICATION_BITS)
    assert chosen.net_rate_hz == pytest.approx(chosen.net_bits * 10**9 / SHORT)


def test_what_is_chosen_can_be_set(found):
    for chosen in found.values():
        settings = chosen.plan.settings
        assert settings.intensities[2] == SCENARIO.source.intensities[2]
        assert all(float(f"{mu:.4g}") == mu for mu in settings.intensities)
        assert all(round(p, 4) == p for p in settings.probabilities)


def test_with_one_decoy_the_choice_is_better_than_its_neighbours_and_can_be_set(one_decoy):
    settings = one_decoy.plan.settings
    mu1, mu2 = settings.intensities
    p1, p2 = settings.probabilities
    own = link(10**9, settings=settings)
    for change in (
        {"intensities": (1.3 * mu1, mu2)},
        {"intensities": (0.75 * mu1, mu2)},
        {"intensities": (mu1, 1.3 * mu2)},
        {"intensities": (mu1, 0.75 * mu2)},
        {"probabilities": (3 * p1, p2 - 2 * p1)},
        {"p_key_basis": settings.p_key_basis - 0.07},
    ):
        assert outlook(own, replace(settings, **change)).length < 1.001 * one_decoy.length
    assert all(float(f"{mu:.4g}") == mu for mu in settings.intensities)
    assert all(round(p, 4) == p for p in settings.probabilities)


def test_one_decoy_gives_nearly_as_much_key_as_two(found, one_decoy):
    """Rusca et al. 2018: the second decoy is worth little, and its clicks are lost to the key."""
    assert one_decoy.n_secret > 0.9 * found[10**9, 25.0].n_secret


@pytest.mark.parametrize("begin", range(2))
def test_what_is_chosen_is_never_worse_than_what_one_begins_with(begin):
    """Laid out at random; the worst begin without key."""
    rng = Random(begin)
    dim = rng.choice((0.0, 0.0002, 0.002))
    decoy = dim + rng.uniform(0.03, 0.2)
    shares = [rng.uniform(0.1, 1) for _ in range(3)]
    settings = DecoySettings(
        clock_hz=1e9,
        n_pulses=10**9,
        intensities=(decoy + dim + rng.uniform(0.1, 0.6), decoy, dim),
        probabilities=tuple(share / sum(shares) for share in shares),
        p_key_basis=rng.uniform(0.5, 0.95),
    )
    if begin % 2:
        settings = with_decoys(settings, 1)
    own = link(10**9, length_km=rng.uniform(5, 40), settings=settings)

    chosen = best(own)

    assert chosen.net_bits >= outlook(own, settings).net_bits
    assert chosen.net_bits > 0


def test_a_decoy_is_left_out_or_added_and_the_probabilities_keep_their_sum():
    two = SCENARIO.source.settings()
    one = with_decoys(two, 1)

    assert one.intensities == two.intensities[:2]
    assert one.probabilities == pytest.approx((0.06, 0.94))
    assert with_decoys(two, 2) is two
    again = with_decoys(one, 2)
    assert again.intensities == pytest.approx((0.35, 0.09, 0.35e-3))
    assert again.probabilities == pytest.approx((0.06, 0.47, 0.47))


def test_key_is_found_where_the_scenario_has_none(found):
    """Blocks of 0.15 s: only other settings give key, met on the way down from longer ones."""
    assert outlook(link(), link().settings).n_secret == 0
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
