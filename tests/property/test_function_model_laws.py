"""Laws of the link models, of repeaters and of device-independent keys.

Closed forms face the printed ones in many digits, or a sum over photon numbers.
"""

from math import exp, log

import mpmath
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qkd_core.proofs.entropy import binary_entropy
from qkd_core.proofs.functions import evaluate

LAW = settings(max_examples=40, deadline=None)

pair_sources = st.fixed_dictionaries(
    {
        "lam": st.floats(-6, 0.5).map(lambda x: 10**x),
        "etaA": st.floats(-7, 0).map(lambda x: 10**x),
        "etaB": st.floats(-7, -0.001).map(lambda x: 10**x),
        "Y0A": st.floats(-12, -2).map(lambda x: 10**x),
        "Y0B": st.floats(-12, -2).map(lambda x: 10**x),
        "ed": st.floats(0, 0.5),
    }
)


@LAW
@given(pair_sources)
def test_gains_of_pairs_are_those_of_the_printed_formula_in_many_digits(inputs):
    """Ma, Fung, Lo, PRA 76, 012307 (2007), Eqs (9) and (10), as printed."""
    with mpmath.workdps(60):
        names = ("lam", "etaA", "etaB", "Y0A", "Y0B", "ed")
        lam, eta_a, eta_b, y_a, y_b, e_d = (mpmath.mpf(inputs[name]) for name in names)
        a, b = eta_a * lam, eta_b * lam
        c = a + b - eta_a * b
        gain = 1 - (1 - y_a) / (1 + a) ** 2 - (1 - y_b) / (1 + b) ** 2
        gain += (1 - y_a) * (1 - y_b) / (1 + c) ** 2
        share = eta_a * eta_b * lam * (1 + lam) / ((1 + a) * (1 + b) * (1 + c))
        errors = gain / 2 - (1 - 2 * e_d) * share

    out = evaluate("mfl2007_gain", inputs)

    assert out["Q"] == pytest.approx(float(gain), rel=1e-13, abs=0)
    assert out["EQ"] == pytest.approx(float(errors), rel=1e-12, abs=0)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 0.3), st.floats(0.05, 0.9), st.floats(0.05, 0.8), st.floats(0, 0.1))
def test_the_gain_of_pairs_is_the_sum_over_their_number(lam, eta_a, eta_b, e_d):
    """P(n) Y_n and P(n) Y_n e_n of the same paper, summed up to 120 pairs."""
    assume(abs(eta_a - eta_b) > 1e-3)
    y_0 = 1e-4
    gain = errors = 0.0
    for n in range(121):
        weight = (n + 1) * lam**n / (1 + lam) ** (n + 2)
        y_n = (1 - (1 - y_0) * (1 - eta_a) ** n) * (1 - (1 - y_0) * (1 - eta_b) ** n)
        both = (1 - ((1 - eta_a) * (1 - eta_b)) ** (n + 1)) / (1 - (1 - eta_a) * (1 - eta_b))
        apart = ((1 - eta_a) ** (n + 1) - (1 - eta_b) ** (n + 1)) / (eta_b - eta_a)
        gain += weight * y_n
        errors += weight * (y_n / 2 - (1 - 2 * e_d) / (n + 1) * (both - apart))

    out = evaluate(
        "mfl2007_gain",
        {"lam": lam, "etaA": eta_a, "etaB": eta_b, "Y0A": y_0, "Y0B": y_0, "ed": e_d},
    )

    assert out["Q"] == pytest.approx(gain, rel=1e-9)
    assert out["EQ"] == pytest.approx(errors, rel=1e-8)


@LAW
@given(st.floats(-6, 1), st.floats(-8, 0), st.floats(-12, -1), st.floats(0, 1))
def test_gains_of_pulses_are_those_of_many_digits(log_mu, log_eta, log_dark, e_d):
    mu, eta, p_d = 10**log_mu, 10**log_eta, 10**log_dark
    with mpmath.workdps(60):
        light = mpmath.mpf(eta) * mpmath.mpf(mu)
        wrong = (1 - mpmath.mpf(p_d)) * mpmath.exp(-light * mpmath.mpf(e_d))
        right = (1 - mpmath.mpf(p_d)) * mpmath.exp(-light * (1 - mpmath.mpf(e_d)))
        expected = {
            "Q": 1 - wrong * right,
            "EQ": (1 - wrong) * (1 + right) / 2,
            "P_double": (1 - wrong) * (1 - right),
        }

    out = evaluate("wcp_gain_two_detectors", {"mu": mu, "eta": eta, "pd": p_d, "ed": e_d})

    for name, value in expected.items():
        assert out[name] == pytest.approx(float(value), rel=1e-12, abs=0), name


@LAW
@given(st.floats(-300, -0.302))
def test_the_entropy_of_small_rates_keeps_its_digits(exponent):
    p = 10**exponent
    with mpmath.workdps(350):
        x = mpmath.mpf(p)
        expected = -(x * mpmath.log(x) + (1 - x) * mpmath.log(1 - x)) / mpmath.log(2)

    assert binary_entropy(p) == pytest.approx(float(expected), rel=1e-14, abs=0)


@LAW
@given(st.floats(0.251, 0.999))
def test_purification_of_two_werner_pairs_is_the_same_by_both_ways(fidelity):
    rest = (1 - fidelity) / 3
    other = evaluate("dejmps", {"A": fidelity, "B": rest, "C": rest, "D": rest})

    better, success = evaluate("bbpssw", {"F": fidelity})["F_psucc"]

    assert (other["A"], other["p_s"]) == pytest.approx((better, success), rel=1e-12)
    assert sum(other[name] for name in "ABCD") == pytest.approx(1, rel=1e-12)
    assert (better > fidelity) is (fidelity > 0.5)


@LAW
@given(st.floats(0.5, 1), st.integers(1, 20), st.integers(1, 20))
def test_a_chain_of_chains_is_a_chain(fidelity, inner, outer):
    once = evaluate("werner_chain", {"F": fidelity, "hops": inner})["F"]

    nested = evaluate("werner_chain", {"F": once, "hops": outer})["F"]

    straight = evaluate("werner_chain", {"F": fidelity, "hops": inner * outer})["F"]
    assert nested == pytest.approx(straight, rel=1e-12)


@LAW
@given(st.floats(0.72, 1))
def test_device_independent_key_is_less_than_that_of_trusted_devices(visibility):
    """For a Werner state: S = 2 sqrt(2) V and Q = (1 - V) / 2."""
    qber, chsh = (1 - visibility) / 2, 8**0.5 * visibility

    rate = evaluate("di_acin2007", {"Q": qber, "S": chsh})["r"]

    assert rate <= 1 - 2 * binary_entropy(qber) + 1e-12
    assert (rate > 0) is (qber < 0.0715) or abs(qber - 0.0715) < 1e-4


@LAW
@given(st.floats(-4, 0).map(lambda x: 10**x), st.floats(3, 7), st.floats(0, 0.05))
def test_accidental_coincidences_cost_visibility(eta, log_rate, e_pol):
    inputs = {"B": 10**log_rate, "etaA": eta, "etaB": eta, "dcA": 500, "dcB": 500}
    inputs |= {"tcc": 1e-9, "tdelta": 5e-10, "epol": e_pol}

    out, darker = (evaluate("neumann2021", {**inputs, "dcB": dark}) for dark in (500, 5000))

    assert out["CC_acc"] <= out["S_A"] * out["S_B"] * 1e-9
    assert e_pol <= out["E"] <= 0.5
    assert darker["R"] <= out["R"] and darker["visibility"] <= out["visibility"]
    assert out["S_A"] >= out["CC_true"]
    assert log(out["window_eff"]) < 0 < exp(-out["E"])
