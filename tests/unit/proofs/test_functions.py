"""Formulas by name: what they refuse, what they doubt, and that they always answer."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.errors import ConfigError
from qkd_core.proofs.formulas.stated import needed, optional
from qkd_core.proofs.functions import FUNCTIONS, evaluate, nothing

VECTORS = Path(__file__).parents[2] / "vectors" / "finite_key.json"
DEJMPS = {"function": "dejmps", "inputs": {"A": 0.7, "B": 0.1, "C": 0.1, "D": 0.1}}
EXAMPLES = {
    vector["function"]: vector["inputs"]
    for vector in [DEJMPS, *json.loads(VECTORS.read_text(encoding="ascii"))]
    if vector["id" if "id" in vector else "function"] != "lim-sat-3"
}
LIM = next(
    v["inputs"] for v in json.loads(VECTORS.read_text(encoding="ascii")) if v["id"] == "lim-01"
)


def refusal(name, given):
    with pytest.raises(ConfigError) as refused:
        evaluate(name, given)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_names_of_the_inputs_are_those_that_the_examples_have(name):
    inputs = FUNCTIONS[name].inputs

    assert set(needed(inputs)) <= EXAMPLES[name].keys() <= {*needed(inputs), *optional(inputs)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_missing_input_is_named(name):
    for key in needed(FUNCTIONS[name].inputs):
        given = {other: value for other, value in EXAMPLES[name].items() if other != key}

        assert refusal(name, given).startswith(f"{key} is missing, needed are ")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_unknown_input_is_named(name):
    message = refusal(name, {**EXAMPLES[name], "two\nlines": 1})

    assert message.startswith("'two\\nlines' is unknown, allowed are ")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"eps_sec": 1}, "eps_sec is 1, allowed is a number, at least 1e-300 and less than 1"),
        ({"eps_sec": 0}, "eps_sec is 0, allowed is a number, at least 1e-300 and less than 1"),
        ({"eps_cor": None}, "eps_cor is None, allowed is a number, at least 1e-300"),
        ({"eps_cor": "1e-15"}, "eps_cor is '1e-15', allowed is a number"),
        ({"eps_cor": True}, "eps_cor is True, allowed is a number"),
        ({"eps_cor": float("nan")}, "eps_cor is nan, allowed is a number"),
        ({"mX_tot": float("inf")}, "mX_tot is inf, allowed is a number"),
        ({"mX_tot": 10**400}, "mX_tot is 1000000000000000000000000000000000000000..., allowed is"),
        ({"p": [0.6, 0.25]}, "p is a list of 2, allowed is a list of 3 numbers"),
        ({"p": 0.6}, "p is 0.6, allowed is a list of 3 numbers"),
        ({"p": [0.6, 0.25, 0]}, "p[2] is 0, allowed is a number, at least 1e-12 and at most 1"),
        ({"mu": [0.5, [0.1], 0]}, "mu[1] is a list of 1, allowed is a number, at least 0"),
        ({"bound": "gauss"}, "bound is 'gauss', allowed is hoeffding or chernoff or asymptotic"),
        ({"clip_counts": 1}, "clip_counts is 1, allowed is true or false"),
        ({"f": 0.9}, "f is 0.9, allowed is a number, at least 1"),
    ],
)
def test_a_malformed_input_is_refused_in_one_line(changed, message):
    assert refusal("lim2014", {**LIM, **changed}).startswith(message)


def test_an_integer_is_refused_a_fraction():
    assert evaluate("werner_chain", {"F": 0.9, "hops": 2.0})["F"] is not None
    message = refusal("werner_chain", {"F": 0.9, "hops": 2.5})
    assert message == "hops is 2.5, allowed is an integer, at least 1 and at most 1e+06"


def test_an_unknown_function_is_refused():
    assert refusal("shor1994", {}).startswith("function 'shor1994' is unknown, allowed are bbpssw,")


UNDEFINED = [
    ("lim2014", {**LIM, "nX": [-1, 5, 5]}, "nX is -1, allowed is at least 0"),
    ("lim2014", {**LIM, "mu": [0.1, 0.5, 0]}, "mu is 0.1, 0.5, 0, allowed are mu1 > mu2 + mu3"),
    ("lim2014", {**LIM, "mu": [0.5, 0.1, 0.1]}, "mu is 0.5, 0.1, 0.1, allowed are mu1 >"),
    ("lim2014", {**LIM, "p": [0.6, 0.25, 0.25]}, "the sum of p is 1.1, allowed is 1"),
    ("lim2014", {**LIM, "mZ": [1, 2, 75]}, "mZ[2] is 75, allowed is at most 74"),
    ("lim2014", {**LIM, "mX_tot": 3e7}, "mX_tot is 3e+07, allowed is at most"),
    ("rusca2018", {"mu": [0.2, 0.5]}, "mu is 0.2, 0.5, allowed are falling numbers above 0"),
    ("wiesemann2024", {"mu": [0.5, 0]}, "mu is 0.5, 0, allowed are falling numbers above 0"),
    ("wiesemann2024", {"p": [0.5, 0.4]}, "the sum of p is 0.9, allowed is 1"),
    ("tomamichel2012", {"k": 0}, "k is 0, allowed is at least 1"),
    ("tomamichel_leverrier2017", {"nu": 0}, "nu is 0, allowed is more than 0 and less than 0.5"),
    ("lim2021", {"k": 7900}, "k is 7900, allowed is less than m, 7900"),
    ("lim2021", {"xi": 0.09}, "xi is 0.09, allowed is less than nu, 0.07521"),
    ("lim2021", {"nu": 0.46}, "Q_tol + nu is 0.5055, allowed is less than 1/2"),
    ("ma2005_infinite", {"mu": 0}, "mu is 0, allowed is more than 0 and at most 100"),
    ("ma2005_infinite", {"eta": 0, "Y0": 0}, "Y0 and eta are 0, allowed is more"),
    ("ma2005_vacuum_weak", {"nu": 0.48}, "nu is 0.48, allowed is less than mu, 0.48"),
    ("ma2005_vacuum_weak", {"EQnu": 0.1}, "EQnu is 0.1, allowed is at most Qnu"),
    ("neumann2021", {"tcc": 0}, "tcc is 0, allowed is more than 0"),
    ("werner_chain", {"F": 0.2}, "F is 0.2, allowed is at least 0.25 and at most 1"),
    ("dejmps", {"A": 0.5}, "the sum of A, B, C and D is 0.8, allowed is 1"),
    ("di_acin2007", {"S": 1.9}, "S is 1.9, allowed is at least 2 and at most 4"),
    ("di_acin2007", {"S": 2.9}, "S is 2.9, allowed is at most 2 sqrt(2)"),
    ("hypergeom_upper_errors", {"x": 5001}, "x is 5001, allowed is at most k, 5000"),
    ("hypergeom_upper_errors", {"eps": 0.5}, "eps is 0.5, allowed is less than 1/2"),
    ("plob", {"eta": 1}, "eta is 1, allowed is at least 0 and less than 1"),
]


@pytest.mark.parametrize(("name", "changed", "reason"), UNDEFINED)
def test_outside_the_domain_there_is_no_number_and_no_key(name, changed, reason):
    out = evaluate(name, {**EXAMPLES[name], **changed})

    assert out["in_domain"] is False
    assert out["out_of_domain"][0].startswith(reason)
    assert {key: out[key] for key in nothing(FUNCTIONS[name])} == nothing(FUNCTIONS[name])


UNPROVED = [
    ("lim2014", {**LIM, "mZ": [0, 19, 0]}, "gamma rests on"),
    ("lim2014", {**LIM, "nX": [0, 1e6, 0], "mX_tot": 0}, "nX is 1e+06 in all, none of more"),
    ("lim2014", {**LIM, "nZ": [0, 1e6, 9], "mZ": [0, 99, 0]}, "nZ is 1.00001e+06 in all, none of"),
    ("rusca2018", {"nZ": [1e5, 9e6], "mZ": [9, 9]}, "nZ is 9.1e+06 in all, none of more photons"),
    ("wiesemann2024", {"nX": [2e5, 9e7], "mX": [9, 9]}, "nX is 9.02e+07 in all, none of more"),
    ("lim2014", {**LIM, "bound": "asymptotic"}, "bound is asymptotic, allowed are those"),
    ("rusca2018", {"mX": [9, 10]}, "gamma rests on 19 errors, allowed is at least 20"),
    ("tomamichel2012", {"Q_tol": 0.45}, "Q_tol + mu is 0.671073, allowed is less than 1/2"),
    ("tomamichel_leverrier2017", {"nu": 0.01}, "eps_pe is 0.0820891, which leaves nothing"),
    ("tomamichel_leverrier2017", {"Q_tol": 0.48}, "Q_tol + nu is 0.51, allowed is less than 1/2"),
    ("lim2021", {"eps_cor": 9.9e-7}, "eps_pe is 4.59482e-07, which leaves nothing"),
    ("ma2005_vacuum_weak", {"Qnu": 1e-6, "EQnu": 0}, "Y1 is -"),
    ("ma2005_vacuum_weak", {"EQnu": 0}, "e1 is -"),
    ("ma2005_vacuum_weak", {"Qnu": 0.9}, "Y1 is 21.12, allowed is at most 1"),
]


@pytest.mark.parametrize(("name", "changed", "reason"), UNPROVED)
def test_numbers_of_no_theorem_say_so(name, changed, reason):
    out = evaluate(name, {**EXAMPLES[name], **changed})

    assert out["in_domain"] is False
    assert out["out_of_domain"][0].startswith(reason)
    assert {key: out[key] for key in nothing(FUNCTIONS[name])} != nothing(FUNCTIONS[name])


def test_twenty_errors_are_enough_for_gamma():
    assert evaluate("rusca2018", {**EXAMPLES["rusca2018"], "mX": [10, 10]})["in_domain"]


def test_what_overflows_is_outside_the_domain():
    out = evaluate("ma2005_vacuum_weak", {**EXAMPLES["ma2005_vacuum_weak"], "nu": 5e-324})

    assert out["out_of_domain"] == ["the numbers leave the range of double precision"]
    assert out["R"] is None


NUMBERS = st.one_of(
    st.integers(-2, 10**16),
    st.floats(allow_nan=True),
    st.floats(0, 1),
    st.floats(1e-12, 1e-3),
    st.sampled_from([0, 1, -1, 0.5, 1e-300, 5e-324, 10**400, None, True, "1", [], {}]),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FUNCTIONS)), st.data())
def test_any_values_give_an_answer_in_json_or_one_line(name, data):
    inputs = dict(EXAMPLES[name])
    for key in data.draw(st.sets(st.sampled_from(sorted(inputs)), min_size=1)):
        if isinstance(inputs[key], list):
            inputs[key] = data.draw(st.lists(NUMBERS, min_size=2, max_size=3))
        else:
            inputs[key] = data.draw(NUMBERS)
    try:
        out = evaluate(name, inputs)
    except ConfigError as error:
        assert "\n" not in str(error) and len(str(error)) < 250
    else:
        json.dumps(out, allow_nan=False)
        assert out["in_domain"] is (out["out_of_domain"] == [])
        if name.startswith(("lim", "rusca", "wiese", "tomamichel")):
            assert out["ell"] >= 0
