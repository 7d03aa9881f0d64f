"""Plans of a vendor's keys: the length is the vendor's word less what verification takes."""

from dataclasses import replace
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import ConfigError, PlanRefused, ProvenanceRefused
from qkd_core.proofs.correctness import verification_bits
from qkd_core.proofs.terms import Terms, evaluated
from qkd_core.proofs.vendor_plan import check_vendor_plan, plan_vendor_keys
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import PairSettings, SecurityPolicy
from qkd_core.types.reconciliation import Method, Reconciliation
from qkd_core.types.vendor import VendorSettings, digest_of_key_ids

SETTINGS = VendorSettings(
    vendor="Example Optics", master_sae="a", slave_sae="b", keys_per_block=64, key_bits=256
)
TERMS = Terms(
    link_id=LinkId("a-b"),
    settings=SETTINGS,
    policy=SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01),
    segment_pads=32,
    config_digest="ab" * 32,
)
VENDOR = frozenset({Provenance.VENDOR})


def planned(terms=TERMS):
    return plan_vendor_keys(terms, BlockId(3), Provenance.VENDOR)


def test_the_length_is_what_is_asserted_less_the_costs_in_whole_words():
    plan = planned()

    exact = 64 * 256 + 2 * log2(1e-9) - max(1 - log2(1e-15), 50) - 1
    assert plan.n_secret == int(exact) - int(exact) % 64
    found = evaluated(plan)
    assert found.theorem == "vendor-asserted"
    assert found.bounds["entropy"] == 64 * 256
    secrecy = [(s.epsilon, s.times) for s in found.ledger if s.what.startswith("secrecy")]
    assert secrecy == [(0.5e-9, 1), (2.0**-60, 1)]


@given(
    n_keys=st.integers(1, 1000),
    key_bits=st.integers(8, 500).map(lambda n: 8 * n),
    eps_sec=st.floats(2.0**-59, 1e-3),
    eps_cor=st.floats(1e-20, 1e-3),
)
def test_at_least_the_announced_hash_is_never_handed_out(n_keys, key_bits, eps_sec, eps_cor):
    settings = replace(SETTINGS, keys_per_block=n_keys, key_bits=key_bits)
    policy = replace(TERMS.policy, eps_sec=eps_sec, eps_cor=eps_cor)
    try:
        plan = planned(replace(TERMS, settings=settings, policy=policy, segment_pads=0))
    except PlanRefused as error:
        assert "no key" in str(error) or n_keys * key_bits < 400
        return
    announced = verification_bits(eps_cor, settings.n_bits)
    assert plan.n_secret <= settings.n_bits - announced + 2 * log2(2 * eps_sec)
    check_vendor_plan(
        plan, replace(TERMS, settings=settings, policy=policy, segment_pads=0), VENDOR
    )


def test_an_eps_sec_that_holds_no_verdict_is_refused():
    policy = replace(TERMS.policy, eps_sec=2.0**-59)
    assert planned(replace(TERMS, policy=policy)).n_secret > 0
    with pytest.raises(PlanRefused, match=r"eps_sec is 1\.7e-18, allowed is at least 1\.73"):
        planned(replace(TERMS, policy=replace(policy, eps_sec=1.7e-18)))


def test_what_goes_to_authentication_alone_is_no_key():
    few = replace(SETTINGS, keys_per_block=4)
    with pytest.raises(PlanRefused, match="no key"):
        planned(replace(TERMS, settings=few))


CHANGES = {
    "more bits": {"n_secret": planned().n_secret + 64},
    "no whole words": {"n_secret": planned().n_secret - 1},
    "bits that were disclosed": {"leak_ec_max": 1},
    "errors": {"qber_expected": 0.01},
    "a method": {
        "reconciliation": Reconciliation(method=Method.LDPC, variant="single", frame_bits=1)
    },
    "other settings": {"settings": replace(SETTINGS, vendor="Others")},
    "another theorem": {"theorem": "bbm92"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_plan_with_anything_else_is_refused(change):
    check_vendor_plan(planned(), TERMS, VENDOR)
    with pytest.raises(PlanRefused):
        check_vendor_plan(replace(planned(), **change), TERMS, VENDOR)


def test_keys_of_a_vendor_are_nothing_else():
    other = replace(planned(), provenance=Provenance.DEVICE)
    with pytest.raises(PlanRefused, match="keys of a vendor's box are not device"):
        check_vendor_plan(other, TERMS, VENDOR | {Provenance.DEVICE})
    with pytest.raises(ProvenanceRefused):
        check_vendor_plan(planned(), TERMS, frozenset({Provenance.DEVICE}))


def test_terms_for_other_links_have_no_such_plan():
    pairs = PairSettings(link_s=1.0, window_ps=500, hold_off_ps=10_000, resolution_ps=10)
    with pytest.raises(PlanRefused, match="not for keys of a vendor's box"):
        planned(replace(TERMS, settings=pairs))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"vendor": ""}, "vendor ''"),
        ({"slave_sae": "a"}, "slave_sae 'a': another name than master_sae"),
        ({"key_bits": 100}, "key_bits 100: whole bytes, 64 to 1048576"),
        ({"key_bits": 32}, "key_bits 32"),
        ({"keys_per_block": 0}, "keys_per_block 0"),
        ({"keys_per_block": 1 << 20, "key_bits": 1 << 10}, "67108864 bits at most"),
    ],
)
def test_settings_without_sense_are_refused(change, told):
    with pytest.raises(ConfigError) as refused:
        replace(SETTINGS, **change)
    assert told in str(refused.value)


def test_the_digest_of_key_ids_tells_their_order_and_their_number():
    ids = [("a", "b"), ("b", "a"), ("a,b",), ("a", "b", ""), ("a",)]
    assert len({digest_of_key_ids(each) for each in ids}) == len(ids)
