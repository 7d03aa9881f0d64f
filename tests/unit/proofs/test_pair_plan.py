"""Plans of blocks of pairs: random counts, least numbers, what is learned and what is refused."""

from dataclasses import replace

import pytest

from qkd_core.errors import PlanRefused
from qkd_core.photons.acceptance import accept
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.proofs.expectation import N_TESTS
from qkd_core.proofs.pair_plan import (
    PairRequest,
    check_pair_plan,
    doubt_key_errors,
    learn_key_errors,
    learn_pairs,
    plan_pairs,
)
from qkd_core.proofs.terms import QBER_MAX, Terms
from qkd_core.types.blocks import PairTallies
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import PairModel, PairSettings, SecurityPolicy
from qkd_core.types.reconciliation import Method, Reconciliation

SETTINGS = PairSettings(link_s=2.0, window_ps=600, hold_off_ps=50_000, resolution_ps=16)
MODEL = PairModel(key_rate_hz=25_000, test_rate_hz=1500, key_qber=0.011, test_qber=0.013)
TERMS = Terms(
    link_id=LinkId("a-b"),
    settings=SETTINGS,
    policy=SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01),
    segment_pads=0,
    config_digest="00" * 32,
)
REQUEST = PairRequest(
    terms=TERMS,
    block_id=BlockId(1),
    provenance=Provenance.SIMULATED,
    reconciliation=Reconciliation(method=Method.CASCADE, variant="fast4", frame_bits=1 << 16),
    disclosed_expected=disclosed_expected,
    model=MODEL,
)
ACCEPTED = frozenset({Provenance.SIMULATED})


def test_a_plan_names_least_counts_and_passes_the_other_ends_check():
    plan = plan_pairs(REQUEST)

    assert 0.95 * 50_000 < plan.key_count.low < 50_000 < plan.key_count.high < 1.05 * 50_000
    assert 0.9 * 3000 < plan.test_count_min < 3000
    assert plan.test_errors_max > 39
    assert 15_000 < plan.n_secret < 40_000
    check_pair_plan(plan, TERMS, ACCEPTED)


def test_a_healthy_block_is_accepted_but_for_the_agreed_abort_rate():
    """Poisson counts; 20,000 blocks: above the agreed share by chance with P < 1e-6 (z 5)."""
    import numpy as np

    plan, n = plan_pairs(REQUEST), 20_000
    rng = np.random.default_rng(8)
    key, test = rng.poisson(50_000, n), rng.poisson(3000, n)
    errors = rng.binomial(test, MODEL.test_qber)
    inside = (key >= plan.key_count.low) & (key <= plan.key_count.high)
    dropped = n - np.sum(inside & (test >= plan.test_count_min) & (errors <= plan.test_errors_max))

    share = 4 / N_TESTS * TERMS.policy.abort_rate
    assert dropped < share * n + 5 * (share * n) ** 0.5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: replace(p, n_secret=p.n_secret + 64), "n_secret"),
        (lambda p: replace(p, test_errors_max=p.test_errors_max + 30), "n_secret"),
        (lambda p: replace(p, test_errors_max=p.test_count_min + 1), "a count of errors"),
        (lambda p: replace(p, test_count_min=p.test_count_min // 2), "n_secret"),
        (lambda p: replace(p, test_count_min=0), "the least test bits is 0"),
        (lambda p: replace(p, key_count=replace(p.key_count, low=0)), "the least key bits is 0"),
        (
            lambda p: replace(p, key_count=replace(p.key_count, low=p.key_count.high + 1)),
            "the least key bits",
        ),
        (lambda p: replace(p, key_count=replace(p.key_count, high=1 << 40)), "the most key bits"),
        (lambda p: replace(p, settings=replace(SETTINGS, window_ps=700)), "another settings"),
    ],
)
def test_a_plan_that_claims_more_than_its_thresholds_give_is_refused(change, told):
    with pytest.raises(PlanRefused, match=told):
        check_pair_plan(change(plan_pairs(REQUEST)), TERMS, ACCEPTED)


@pytest.mark.parametrize(
    "model",
    [
        replace(MODEL, key_rate_hz=0.0),
        replace(MODEL, test_rate_hz=0.0),
        replace(MODEL, key_qber=0.22),
        replace(MODEL, test_qber=0.12),
        replace(MODEL, key_rate_hz=60.0, test_rate_hz=30.0),
    ],
)
def test_a_model_without_key_is_refused(model):
    with pytest.raises(PlanRefused):
        plan_pairs(replace(REQUEST, model=model))


def test_more_light_and_fewer_errors_give_more_key():
    usual = plan_pairs(REQUEST).n_secret

    for better in (
        replace(MODEL, key_rate_hz=26_000),
        replace(MODEL, test_rate_hz=1700),
        replace(MODEL, key_qber=0.005, test_qber=0.005),
    ):
        assert plan_pairs(replace(REQUEST, model=better)).n_secret > usual


def test_what_is_seen_moves_the_model_towards_it_and_no_further():
    seen = PairTallies(n_key=40_000, n_test=2400, test_errors=60)

    learned = learn_pairs(MODEL, seen, SETTINGS)
    learned = learn_key_errors(learned, 800, 40_000)

    assert 20_000 < learned.key_rate_hz < 25_000
    assert 1200 < learned.test_rate_hz < 1500
    assert 0.013 < learned.test_qber < 0.025
    assert 0.011 < learned.key_qber < 0.02
    for _ in range(40):
        learned = learn_key_errors(learn_pairs(learned, seen, SETTINGS), 800, 40_000)
    assert learned.key_rate_hz == pytest.approx(20_000, rel=1e-3)
    assert learned.test_rate_hz == pytest.approx(1200, rel=1e-3)
    assert learned.test_qber == pytest.approx(0.025, rel=1e-3)
    assert learned.key_qber == pytest.approx(0.02, rel=1e-3)


def test_few_counts_move_the_model_slowly():
    few = PairTallies(n_key=50_000, n_test=3000, test_errors=0)
    rare = replace(MODEL, test_qber=1e-3)

    assert learn_pairs(rare, few, SETTINGS).test_qber > 0.95e-3


def test_doubt_raises_the_error_rate_of_the_key_up_to_a_limit():
    model = MODEL
    for _ in range(30):
        doubted = doubt_key_errors(model)
        assert doubted.key_qber > model.key_qber or doubted.key_qber == QBER_MAX
        model = doubted
    assert model == replace(MODEL, key_qber=QBER_MAX)


class Key:
    """What acceptance asks of a reconciled key."""

    def __init__(self, n_bits, disclosed):
        self.n_bits, self.disclosed = n_bits, disclosed


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, None),
        ({"n_key": 500}, None),
        ({"n_test": 400}, None),
        ({"test_errors": -5}, None),
        ({"n_key": -1}, "the number of key bits"),
        ({"n_test": -1}, "the number of test bits"),
        ({"test_errors": 1}, "the error count of the test basis"),
        ({"n_key": 10_000}, "the number of key bits"),
    ],
)
def test_a_block_is_accepted_from_its_least_counts_on(more, told):
    from qkd_core.errors import NotAccepted

    plan = plan_pairs(REQUEST)
    at_least = PairTallies(
        n_key=plan.key_count.low, n_test=plan.test_count_min, test_errors=plan.test_errors_max
    )
    tallies = replace(at_least, **{k: getattr(at_least, k) + v for k, v in more.items()})
    key = Key(tallies.n_key, disclosed_expected(tallies.n_key, 0.01, plan.reconciliation))

    if told is None:
        accept(tallies, key, plan)
        return
    with pytest.raises(NotAccepted, match=told):
        accept(tallies, key, plan)
