from dataclasses import replace

import numpy as np
import pytest

from qkd_core.errors import PlanRefused, ProvenanceRefused
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.proofs.expectation import expected, learn, limits
from qkd_core.proofs.plan import PlanRequest, check_plan, plan_block
from qkd_core.proofs.terms import Terms, n_secret_allowed
from qkd_core.types.blocks import Tallies
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import DecoySettings, Interval, LinkModel, SecurityPolicy
from qkd_core.types.reconciliation import Method, Reconciliation

SETTINGS = DecoySettings(
    clock_hz=1e9,
    n_pulses=10**9,
    intensities=(0.35, 0.055, 0.0002),
    probabilities=(0.016, 0.664, 0.32),
    p_key_basis=0.8,
)
CASCADE = Reconciliation(method=Method.CASCADE, variant="fast4", frame_bits=1 << 16)
MODEL = LinkModel(gain=(3.33e-3, 5.28e-4, 2.3e-6), qber=(0.015, 0.0153, 0.095))
TERMS = Terms(
    link_id=LinkId("a-b"),
    settings=SETTINGS,
    policy=SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01),
    segment_pads=64,
    config_digest="ab" * 32,
)
ACCEPT = [Provenance.SIMULATED]


def planned(model=MODEL, **terms):
    return plan_block(
        PlanRequest(
            terms=replace(TERMS, **terms),
            model=model,
            block_id=BlockId(3),
            provenance=Provenance.SIMULATED,
            reconciliation=CASCADE,
            disclosed_expected=disclosed_expected,
        )
    )


def drawn(rng, model=MODEL, settings=SETTINGS):
    mean = expected(settings, model)
    test = rng.poisson(mean.test)
    return Tallies(
        n_pulses=settings.n_pulses,
        key_counts=tuple(int(c) for c in rng.poisson(mean.key)),
        test_counts=tuple(int(c) for c in test),
        test_errors=tuple(int(c) for c in rng.binomial(test, model.qber)),
    )


def accepted(tallies, plan):
    counts = tallies.key_counts + tallies.test_counts
    intervals = plan.key_counts + plan.test_counts
    inside = [i.low <= c <= i.high for c, i in zip(counts, intervals, strict=True)]
    few = [e <= m for e, m in zip(tallies.test_errors, plan.test_errors_max, strict=True)]
    return all(inside + few)


def test_a_plan_claims_whole_words_that_its_thresholds_allow_and_its_peer_agrees():
    plan = planned()

    assert plan.n_secret % 64 == 0
    assert plan.n_secret == n_secret_allowed(plan) > 50_000
    assert plan.qber_expected == pytest.approx(0.0153, abs=2e-4)
    check_plan(plan, TERMS, ACCEPT)


def test_a_healthy_link_aborts_no_more_often_than_agreed():
    """1000 blocks at 1 %: more than 25 aborts come with 2e-5 from a rate of 1 %."""
    rng, plan = np.random.default_rng(1), planned()

    aborts = sum(not accepted(drawn(rng), plan) for _ in range(1000))

    assert aborts <= 25


def test_limits_hold_for_few_and_for_many_counts():
    """2e5 draws a mean; each end may be crossed with 0.01 / 16, five sigma is 0.01 / 16 + 3e-4."""
    rng = np.random.default_rng(2)
    for mean in (0.0, 0.5, 3.0, 40.0, 5000.0):
        interval, counts = limits(mean, 0.01), rng.poisson(mean, 200_000)
        assert np.mean(counts < interval.low) < 0.01 / 16 + 3e-4
        assert np.mean(counts > interval.high) < 0.01 / 16 + 3e-4


@pytest.mark.parametrize("spread", [0.005, 0.1])
def test_limits_leave_room_for_a_link_that_is_not_the_same_in_each_block(spread):
    """As above; blocks whose light is normally distributed."""
    rng = np.random.default_rng(3)
    for mean in (40.0, 5000.0, 1e7):
        light = np.maximum(rng.normal(mean, spread * mean, 200_000), 0)
        interval, counts = limits(mean, 0.01, spread), rng.poisson(light)
        assert np.mean(counts < interval.low) < 0.01 / 16 + 3e-4
        assert np.mean(counts > interval.high) < 0.01 / 16 + 3e-4
    assert limits(1e7, 0.01, spread).low < limits(1e7, 0.01).low


def test_the_spread_of_a_link_widens_its_plan_and_is_kept_when_it_learns():
    fades = replace(MODEL, spread=0.01)
    steady, wide = planned(), planned(fades)

    for narrow, wider in zip(
        steady.key_counts + steady.test_counts, wide.key_counts + wide.test_counts, strict=True
    ):
        assert wider.low <= narrow.low and wider.high >= narrow.high
    assert wide.key_counts[0].high - steady.key_counts[0].high > 0.01 * steady.key_counts[0].high
    assert all(w >= s for w, s in zip(wide.test_errors_max, steady.test_errors_max, strict=True))
    assert wide.n_secret < steady.n_secret
    assert learn(fades, drawn(np.random.default_rng(4)), SETTINGS).spread == 0.01


def test_learning_finds_back_to_a_link_that_has_changed():
    rng = np.random.default_rng(3)
    model = LinkModel(gain=tuple(0.97 * g for g in MODEL.gain), qber=(0.02, 0.01, 0.3))
    assert not accepted(drawn(rng), planned(model))

    for _ in range(10):
        model = learn(model, drawn(rng), SETTINGS)

    assert accepted(drawn(rng), planned(model))
    assert model.gain[:2] == pytest.approx(MODEL.gain[:2], rel=0.02)
    assert model.qber[1] == pytest.approx(MODEL.qber[1], rel=0.1)


def test_one_block_without_a_vacuum_click_moves_the_vacuum_little():
    tallies = replace(
        drawn(np.random.default_rng(4)),
        key_counts=(34000, 223000, 0),
        test_counts=(2200, 14500, 0),
        test_errors=(33, 220, 0),
    )

    model = learn(MODEL, tallies, SETTINGS)

    # 509 clicks were expected, the belief is worth 300
    assert MODEL.gain[2] / 3 < model.gain[2] < MODEL.gain[2]
    assert model.qber[2] == MODEL.qber[2]


def test_no_key_can_be_planned_over_a_link_that_is_too_bad_or_too_short():
    noisy = LinkModel(gain=MODEL.gain, qber=(0.08, 0.08, 0.5))
    broken = LinkModel(gain=MODEL.gain, qber=(0.4, 0.4, 0.5))
    for model in (noisy, broken, LinkModel(gain=(0.0, 0.0, 0.0), qber=MODEL.qber)):
        with pytest.raises(PlanRefused):
            planned(model)
    with pytest.raises(PlanRefused):
        planned(settings=replace(SETTINGS, n_pulses=10**8))


def test_a_block_that_would_only_feed_the_authentication_is_refused():
    n_secret = planned().n_secret
    pads = n_secret // (2 * 128)

    with pytest.raises(PlanRefused, match="authentication"):
        planned(segment_pads=pads)


@pytest.mark.parametrize(
    "change",
    [
        {"config_digest": "cd" * 32},
        {"segment_pads": 0},
        {"link_id": LinkId("a-c")},
        {"settings": replace(SETTINGS, p_key_basis=0.81)},
        {"policy": SecurityPolicy(eps_sec=1e-6, eps_cor=1e-15, abort_rate=0.01)},
        {"theorem": "wishful"},
        {"theorem": "lim2014"},
        {"theorem": "rusca2018"},
        {"theorem": "bbm92"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_peer_with_other_terms_is_refused(change):
    with pytest.raises(PlanRefused, match=next(iter(change))):
        check_plan(replace(planned(), **change), TERMS, ACCEPT)


def test_a_provenance_that_is_not_accepted_is_refused():
    with pytest.raises(ProvenanceRefused):
        check_plan(planned(), TERMS, [Provenance.DEVICE])


def test_a_plan_that_claims_one_word_too_many_is_refused():
    plan = planned()

    with pytest.raises(PlanRefused, match="thresholds"):
        check_plan(replace(plan, n_secret=plan.n_secret + 64), TERMS, ACCEPT)


@pytest.mark.parametrize(
    "change",
    [
        {"leak_ec_max": 0},
        {"test_errors_max": (0, 0, 0)},
        {
            "key_counts": (
                Interval(low=0, high=1),
                Interval(low=9, high=10**8),
                Interval(low=0, high=0),
            )
        },
    ],
    ids=lambda change: next(iter(change)),
)
def test_thresholds_that_are_met_by_no_block_or_are_better_than_real_do_not_break_the_check(change):
    plan = replace(planned(), **change)

    try:
        check_plan(plan, TERMS, ACCEPT)
    except PlanRefused:
        return
    assert plan.n_secret <= n_secret_allowed(plan)


@pytest.mark.parametrize(
    "change",
    [
        {"key_counts": (Interval(low=5, high=4),) * 3},
        {"key_counts": (Interval(low=-5, high=4),) * 3},
        {"test_counts": (Interval(low=0, high=10**9 + 1),) * 3},
        {"test_counts": (Interval(low=0, high=5.5),) * 3},
        {"test_errors_max": (-1, 0, 0)},
        {"test_errors_max": ("9", 0, 0)},
        {"leak_ec_max": -(10**6)},
        {"leak_ec_max": True},
        {"n_secret": 63},
        {"n_secret": 0},
        {"n_secret": -64},
        {"n_secret": 64.0},
        {"qber_expected": 0.3},
        {"qber_expected": float("nan")},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(change):
    with pytest.raises(PlanRefused):
        check_plan(replace(planned(), **change), TERMS, ACCEPT)
