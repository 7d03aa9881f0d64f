"""Theorems by name: what each makes of a plan, and which are refused for keys."""

import json
from dataclasses import replace
from fractions import Fraction
from math import isfinite, nextafter

import pytest

from qkd_core.errors import PlanRefused
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.proofs.plan import PlanRequest, plan_block
from qkd_core.proofs.terms import Terms, evaluated
from qkd_core.proofs.theorems import kind_of, names, theorem_for, theorem_of
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import (
    DecoySettings,
    Interval,
    LinkKind,
    LinkModel,
    PairPlan,
    PairSettings,
    SecurityPolicy,
)
from qkd_core.types.reconciliation import Method, Reconciliation

POLICY = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01)
CASCADE = Reconciliation(method=Method.CASCADE, variant="fast4", frame_bits=1 << 16)
TERMS = Terms(
    link_id=LinkId("a-b"),
    settings=DecoySettings(
        clock_hz=1e9,
        n_pulses=10**9,
        intensities=(0.35, 0.09, 0.0002),
        probabilities=(0.06, 0.66, 0.28),
        p_key_basis=0.78,
    ),
    policy=POLICY,
    segment_pads=0,
    config_digest="ab" * 32,
)
ONE_DECOY = replace(
    TERMS.settings, intensities=(0.38, 0.083), probabilities=(0.04, 0.96), p_key_basis=0.8
)
ONE_DECOY_MODEL = LinkModel(gain=(3.0e-3, 8.0e-4), qber=(0.015, 0.0153))
MODEL = LinkModel(gain=(3.0e-3, 8.0e-4, 2.3e-6), qber=(0.015, 0.0153, 0.095))
PAIRS = PairPlan(
    block_id=BlockId(1),
    link_id=LinkId("a-b"),
    theorem="bbm92",
    settings=PairSettings(link_s=1.0, window_ps=500, hold_off_ps=10_000, resolution_ps=10),
    policy=POLICY,
    key_count=Interval(low=100_000, high=110_000),
    test_count_min=20_000,
    test_errors_max=400,
    reconciliation=CASCADE,
    qber_expected=0.02,
    leak_ec_max=20_000,
    n_secret=0,
    segment_pads=0,
    provenance=Provenance.SIMULATED,
    config_digest="ab" * 32,
)
FOR_FIGURES = (
    "rusca2018",
    "wiesemann2024",
    "tomamichel2012",
    "tomamichel_leverrier2017",
    "lim2021",
)


def decoys(theorem=None, model=MODEL, **terms):
    return plan_block(
        PlanRequest(
            terms=replace(TERMS, theorem=theorem, **terms),
            model=model,
            block_id=BlockId(3),
            provenance=Provenance.SIMULATED,
            reconciliation=CASCADE,
            disclosed_expected=disclosed_expected,
        )
    )


def one_decoy(theorem=None):
    return decoys(theorem, settings=ONE_DECOY, model=ONE_DECOY_MODEL)


PLANS = {
    "decoy1-exact": one_decoy,
    "decoy2-exact": decoys,
    "lim2014": lambda: decoys("lim2014"),
    "bbm92": lambda: PAIRS,
}


def test_the_names():
    makers = ("decoy1-exact", "decoy2-exact", "lim2014", "bbm92", "vendor-asserted")
    assert names() == (*makers, *FOR_FIGURES)
    for name in names():
        theorem = theorem_of(name)
        assert (theorem.name, theorem.version) == (name, "1")
        assert theorem.source
        assert theorem.assumptions
        assert theorem.domain


@pytest.mark.parametrize("name", PLANS)
def test_an_evaluation_is_what_the_plan_claims_and_can_be_told(name):
    plan = PLANS[name]()

    found = theorem_of(name).evaluate(plan)

    assert (found.theorem, found.version) == (name, "1")
    assert found.n_secret % 64 == 0
    assert found.n_secret > 50_000
    assert 0 <= found.bounds["length"] - found.n_secret < 65
    assert all(isfinite(value) for value in found.bounds.values())
    assert json.loads(json.dumps(found.bounds)) == found.bounds
    if plan.n_secret:
        assert plan.n_secret == found.n_secret


@pytest.mark.parametrize("eps_sec", [1e-9, 1e-10, 3e-7, 0.1])
@pytest.mark.parametrize("name", PLANS)
def test_the_ledger_spends_what_was_agreed_and_no_more(name, eps_sec):
    plan = replace(PLANS[name](), policy=replace(POLICY, eps_sec=eps_sec))

    ledger = theorem_of(name).evaluate(plan).ledger

    def spent(about):
        return sum(s.times * Fraction(s.epsilon) for s in ledger if s.what.startswith(about))

    assert spent("correctness: ") == Fraction(POLICY.eps_cor)
    assert 0 <= 1 - spent("secrecy: ") / Fraction(eps_sec) < Fraction(1, 2**52)
    assert 0 < spent("authentication: ") < Fraction(1, 10**27)
    assert spent("health: ") == Fraction(1, 2**60)
    kinds = ("secrecy", "correctness", "health", "authentication")
    assert all(s.what.split(": ")[0] in kinds for s in ledger)


@pytest.mark.parametrize(("name", "parts"), [("decoy1-exact", 17), ("decoy2-exact", 21)])
def test_decoy_parts_are_equal_and_as_many_as_the_theorem_says(name, parts):
    ledger = theorem_of(name).evaluate(PLANS[name]()).ledger

    assert sum(s.times for s in ledger if s.what.startswith("secrecy")) == parts
    (part,) = {s.epsilon for s in ledger if s.what.startswith("secrecy")}
    assert part in (1e-9 / parts, nextafter(1e-9 / parts, 0))


def test_the_default_is_exact_and_gives_more_key():
    assert one_decoy().theorem == theorem_for(LinkKind.ONE_DECOY, None).name == "decoy1-exact"
    assert decoys().theorem == theorem_for(LinkKind.TWO_DECOYS, None).name == "decoy2-exact"
    assert theorem_for(LinkKind.PAIRS, None).name == "bbm92"
    assert theorem_for(LinkKind.VENDOR_KEYS, None).name == "vendor-asserted"
    assert decoys().n_secret > 1.05 * decoys("lim2014").n_secret


@pytest.mark.parametrize("name", [*FOR_FIGURES, "bbm92", "wishful", ""])
def test_what_makes_no_key_of_decoy_pulses_is_refused_by_name(name):
    with pytest.raises(PlanRefused, match=f"theorem '{name}'.*allowed are"):
        decoys(name)


@pytest.mark.parametrize("name", ["wishful", "lim2021", "bbm92", "lim2014", "decoy1-exact"])
def test_a_refusal_names_only_what_makes_keys_of_that_light(name):
    for kind, light, makers in (
        (LinkKind.ONE_DECOY, "decoy pulses of two intensities", "decoy1-exact"),
        (LinkKind.TWO_DECOYS, "decoy pulses of three intensities", "decoy2-exact, lim2014"),
        (LinkKind.PAIRS, "entangled pairs", "bbm92"),
        (LinkKind.VENDOR_KEYS, "keys of a vendor's box", "vendor-asserted"),
    ):
        if name in makers.split(", "):
            assert theorem_for(kind, name).name == name
            continue
        why = "is unknown" if name == "wishful" else f"makes no key of {light}"
        with pytest.raises(PlanRefused) as refused:
            theorem_for(kind, name)
        assert str(refused.value) == f"theorem '{name}' {why}, allowed are {makers}"


def test_an_unknown_theorem_is_refused_with_all_that_make_keys():
    makers = "bbm92, decoy1-exact, decoy2-exact, lim2014, vendor-asserted"
    with pytest.raises(PlanRefused, match=f"unknown, allowed are {makers}$"):
        kind_of("wishful")


@pytest.mark.parametrize("name", FOR_FIGURES)
def test_a_theorem_for_figures_evaluates_no_plan(name):
    for attempt in (
        lambda: kind_of(name),
        lambda: theorem_of(name).evaluate(decoys()),
        lambda: evaluated(replace(decoys(), theorem=name)),
    ):
        with pytest.raises(PlanRefused, match=f"'{name}' is not for keys: it reproduces"):
            attempt()


@pytest.mark.parametrize(
    ("name", "plan", "told"),
    [
        ("bbm92", decoys, "entangled pairs, not for decoy pulses of three intensities"),
        (
            "decoy2-exact",
            lambda: PAIRS,
            "decoy pulses of three intensities, not for entangled pairs",
        ),
        (
            "decoy2-exact",
            one_decoy,
            "decoy pulses of three intensities, not for decoy pulses of two intensities",
        ),
        (
            "decoy1-exact",
            decoys,
            "decoy pulses of two intensities, not for decoy pulses of three intensities",
        ),
    ],
)
def test_a_plan_of_another_kind_is_refused_in_the_words_of_the_field(name, plan, told):
    with pytest.raises(PlanRefused) as refused:
        theorem_of(name).evaluate(plan())
    assert str(refused.value) == f"theorem '{name}' is for {told}"


def test_a_plan_that_claims_one_word_too_many_is_refused():
    plan = decoys()

    assert evaluated(plan).n_secret == plan.n_secret
    with pytest.raises(PlanRefused, match="thresholds"):
        evaluated(replace(plan, n_secret=plan.n_secret + 64))


def test_lim2014_is_refused_where_its_gamma_rests_on_too_few_errors_and_the_default_is_not():
    few = {"test_errors_max": (2, 9, 3), "n_secret": 0}

    with pytest.raises(PlanRefused, match=r"'lim2014' is outside its domain.* at least 20"):
        evaluated(replace(decoys("lim2014"), **few))
    assert evaluated(replace(decoys(), **few)).n_secret > 50_000


def test_more_events_than_rounding_allows_for_are_refused():
    huge = Interval(low=1, high=1 << 46)

    with pytest.raises(PlanRefused, match="the limit is 70368744177664"):
        evaluated(replace(decoys(), key_counts=(huge, huge, huge)))


def test_the_largest_pair_key_may_not_need_a_longer_hash_than_the_least_pays_for():
    plan = replace(PAIRS, policy=replace(POLICY, eps_cor=2.0**-105))
    assert evaluated(plan).n_secret > 0

    with pytest.raises(PlanRefused, match="eps_cor"):
        evaluated(replace(plan, key_count=Interval(low=100_000, high=1 << 30)))
