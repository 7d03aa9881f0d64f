"""Laws of the theorems that make keys: none at 11 % of errors, and less than a fibre can carry.

Errors are corrected at the Shannon limit, in one direction: what no method reaches. So a key that
is 0 here is 0 for what the proof takes off, not for what error correction tells.
"""

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.proofs import bbm92
from qkd_core.proofs.entropy import binary_entropy
from qkd_core.proofs.functions import evaluate
from qkd_core.proofs.plan import PlanRequest, drafted
from qkd_core.proofs.terms import Terms
from qkd_core.proofs.theorems import theorem_of
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import DecoySettings, LinkModel, SecurityPolicy
from qkd_core.types.reconciliation import Disclosed, Method, Reconciliation

LAW = settings(max_examples=40, deadline=None)
SOURCES = {
    "decoy1-exact": {"intensities": (0.4, 0.1), "probabilities": (0.6, 0.4)},
    "decoy2-exact": {"intensities": (0.4, 0.1, 0.0), "probabilities": (0.6, 0.25, 0.15)},
}


def shannon(n_bits: int, qber: float, _: Reconciliation) -> Disclosed:
    return Disclosed(about_key=ceil(n_bits * binary_entropy(qber)), about_errors=0)


def exact_key(theorem, n_pulses, p_key, device, source=None):
    """The secret bits of a block of decoy pulses.

    device  eta, pd and ed: transmittance, dark clicks of a gate, and errors of the optics
    """
    source = source or SOURCES[theorem]
    seen = [
        evaluate("wcp_gain_two_detectors", {**device, "mu": mu}) for mu in source["intensities"]
    ]
    terms = Terms(
        link_id=LinkId("a-b"),
        settings=DecoySettings(clock_hz=1e9, n_pulses=n_pulses, p_key_basis=p_key, **source),
        policy=SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01),
        theorem=theorem,
        segment_pads=0,
        config_digest="",
    )
    plan = drafted(
        PlanRequest(
            terms=terms,
            model=LinkModel(
                gain=tuple(each["Q"] for each in seen),
                qber=tuple(each["EQ"] / each["Q"] for each in seen),
            ),
            block_id=BlockId(1),
            provenance=Provenance.SIMULATED,
            reconciliation=Reconciliation(method=Method.CASCADE, variant="", frame_bits=1 << 16),
            disclosed_expected=shannon,
        )
    )
    return theorem_of(plan.theorem).evaluate(plan).n_secret


@pytest.mark.parametrize("theorem", SOURCES)
@LAW
@given(
    st.floats(8, 13).map(lambda x: round(10**x)),
    st.floats(-2.5, -0.3).map(lambda x: 10**x),
    st.floats(0.11, 0.15),
    st.floats(0.5, 0.97),
)
def test_decoy_pulses_give_no_key_at_eleven_per_cent(theorem, n_pulses, eta, ed, p_key):
    assert exact_key(theorem, n_pulses, p_key, {"eta": eta, "pd": 1e-8, "ed": ed}) == 0


@pytest.mark.parametrize("theorem", SOURCES)
@pytest.mark.parametrize("p_key", [0.5, 0.9])
@pytest.mark.parametrize("ed", [0.0, 0.02])
def test_decoy_pulses_give_less_the_more_is_lost_and_never_what_no_repeater_could(
    theorem, p_key, ed
):
    rates = []
    for loss_db in (1, 5, 10, 20, 30):
        eta, n_pulses = 10 ** (-loss_db / 10), 10**12
        rate = exact_key(theorem, n_pulses, p_key, {"eta": eta, "pd": 1e-8, "ed": ed}) / n_pulses
        assert 0 < rate < evaluate("plob", {"eta": eta})["b"]
        rates.append(rate)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("ed", [0.01, 0.02])
@pytest.mark.parametrize("loss_db", [5, 15, 25])
def test_without_a_vacuum_long_blocks_give_less_key_than_with_one(loss_db, ed):
    """Where statistics cost nothing: errors of the optics count as vacuum events with one decoy."""
    device = {"eta": 10 ** (-loss_db / 10), "pd": 1e-8, "ed": ed}

    with_vacuum = SOURCES["decoy2-exact"] | {"probabilities": (0.6, 0.399, 0.001)}
    one = exact_key("decoy1-exact", 10**13, 0.9, device)

    assert 0 < one < exact_key("decoy2-exact", 10**13, 0.9, device, with_vacuum)


def pairs_key(n_key, n_test, qber):
    """The secret bits of so many coincidences of both bases, by 'bbm92'."""
    return bbm92.bounds(
        bbm92.Premises(
            n_key=n_key,
            n_test=n_test,
            test_errors_max=ceil(n_test * qber),
            leak_ec=n_key * binary_entropy(qber),
            eps_sec=1e-9,
            eps_cor=1e-15,
        )
    ).n_secret


events = st.floats(2, 8).map(lambda x: round(10**x))


@LAW
@given(events, events, st.floats(0.11, 0.5))
def test_pairs_give_no_key_at_eleven_per_cent(n_key, n_test, qber):
    """1 - 2 h(0.11) is 0.0002: for many more events there is a key."""
    assert pairs_key(n_key, n_test, qber) == 0


def test_pairs_give_key_a_little_below():
    assert pairs_key(10**8, 10**8, 0.108) > 0
