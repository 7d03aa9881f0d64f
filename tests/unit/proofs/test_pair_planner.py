"""Choosing window and bases of entangled pairs: laws of a good choice."""

from dataclasses import replace

import pytest

from qkd_core.errors import PlanRefused
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.proofs.ahead import Ahead
from qkd_core.proofs.outlook import AUTHENTICATION_BITS
from qkd_core.proofs.pair_plan import plan_pairs
from qkd_core.proofs.pair_planner import Bases, PairLink, optimised_pairs, pair_outlook
from qkd_core.proofs.terms import Terms
from qkd_core.types.ids import LinkId
from qkd_core.types.plans import SecurityPolicy
from qkd_core.types.reconciliation import Method, Reconciliation
from qkd_sim_link.physics.pairs import expected_pair_model
from qkd_sim_link.scenarios.links import load_link

SCENARIO = load_link("entangled-25km")
CASCADE = Reconciliation(method=Method.CASCADE, variant="fast4", frame_bits=1 << 16)


def link(p_key_basis=0.8, pair_rate_hz=4e6, **settings):
    """The shipped scenario with some figures changed."""

    def model(bases):
        receiver = replace(SCENARIO.receiver, p_key_basis=bases.p_key_basis)
        source = replace(SCENARIO.source, pair_rate_hz=pair_rate_hz)
        changed = replace(SCENARIO, receiver=receiver, source=source)
        return expected_pair_model(changed, bases.settings)

    terms = Terms(
        link_id=LinkId("a-b"),
        settings=replace(SCENARIO.settings, **settings),
        policy=SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01),
        segment_pads=0,
        config_digest="",
    )
    ahead = Ahead(terms=terms, correction=lambda *_: CASCADE, disclosed_expected=disclosed_expected)
    return PairLink(ahead=ahead, p_key_basis=p_key_basis, model=model)


def best(link):
    return optimised_pairs(link, lambda *_: None)


@pytest.mark.parametrize(
    "begin",
    [
        {},
        {"window_ps": 150},
        {"window_ps": 20_000},
        {"p_key_basis": 0.55},
        {"p_key_basis": 0.97},
        {"p_key_basis": 1.0},
    ],
    ids=str,
)
def test_wherever_it_begins_it_ends_near_the_same_top_and_never_below(begin):
    own = link(**begin)
    bases, chosen = best(own)
    _, shipped = best(link())

    assert chosen.net_bits > 0.99 * shipped.net_bits
    if begin != {"p_key_basis": 1.0}:
        assert chosen.net_bits >= pair_outlook(own, own.begin).net_bits
    assert bases.settings == chosen.plan.settings
    assert round(bases.p_key_basis, 3) == bases.p_key_basis


def test_the_choice_is_better_than_its_neighbours():
    own = link()
    bases, chosen = best(own)

    for other in (
        Bases(settings=bases.settings, p_key_basis=bases.p_key_basis - 0.05),
        Bases(settings=bases.settings, p_key_basis=bases.p_key_basis + 0.05),
        replace(bases, settings=replace(bases.settings, window_ps=250)),
        replace(bases, settings=replace(bases.settings, window_ps=2000)),
    ):
        assert pair_outlook(own, other).length < chosen.length


def test_a_brighter_source_makes_accidents_and_wants_a_narrower_window():
    dim, bright = (best(link(pair_rate_hz=rate))[0] for rate in (1e6, 4e7))

    assert bright.settings.window_ps < dim.settings.window_ps


def test_longer_blocks_test_a_smaller_share_and_give_more_key_a_second():
    (short_bases, short), (long_bases, long) = (best(link(link_s=s)) for s in (0.5, 20.0))

    assert long_bases.p_key_basis > short_bases.p_key_basis
    assert long.net_rate_hz > short.net_rate_hz > 0


def test_an_outlook_is_what_an_engine_would_plan_and_what_it_leaves():
    own = link()
    _, chosen = best(own)
    ahead = replace(own.ahead, terms=replace(own.ahead.terms, settings=chosen.plan.settings))

    assert plan_pairs(ahead.of_pairs(chosen.model)) == chosen.plan
    assert chosen.net_bits == pytest.approx(0.99 * chosen.n_secret - AUTHENTICATION_BITS)
    assert chosen.net_rate_hz == pytest.approx(chosen.net_bits / 2)


def test_a_link_without_key_is_refused_in_one_line():
    with pytest.raises(PlanRefused, match="no settings give key: "):
        best(link(link_s=1e-3))
