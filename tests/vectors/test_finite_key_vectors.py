"""The theorem that makes keys, and the sampling bound, against `finite_key.json`.

The values were made for this project, not published: 50-digit arithmetic, checked against the
independent codes that the file names (SatQuMA 2.0 for lim-sat-1). The printed formula itself is
held in `test_function_vectors.py`; here is what `qkd_core.proofs.lim2014` makes of the same counts,
and where it departs from the print.
"""

import json
from math import log
from pathlib import Path

import pytest

from qkd_core.proofs.decoy2_exact import bounds as exact_bounds
from qkd_core.proofs.lim2014 import bounds
from qkd_core.proofs.premises import Premises
from qkd_core.proofs.sampling import errors_outside_max
from qkd_core.types.plans import Interval

FILE = Path(__file__).with_name("finite_key.json")
VECTORS = {v["id"]: v for v in json.loads(FILE.read_text(encoding="ascii"))}
LIM2014 = [
    v
    for v in VECTORS.values()
    if v["function"] == "lim2014" and v["inputs"].get("bound", "hoeffding") == "hoeffding"
]
SAMPLING = [v for v in VECTORS.values() if v["function"] == "hypergeom_upper_errors"]
EVENTS = {
    "tau0": "tau_0",
    "tau1": "tau_1",
    "s_X0": "s_key_0",
    "s_X1": "s_key_1",
    "s_Z0": "s_test_0",
    "s_Z1": "s_test_1",
}
ERRORS = {"v_Z1": "v_test_1", "ratio": "ratio", "gamma": "gamma"}
CLIPPED = {"lim-01", "lim-02", "lim-03", "lim-14"}  # no expected count of errors is below 0
WHOLE = [v for v in LIM2014 if v["id"] != "lim-sat-1"]  # its counts are no integers


def premises(vector):
    inputs, expected = vector["inputs"], vector["expected"]

    def exactly(counts):
        return tuple(Interval(low=count, high=count) for count in counts)

    return Premises(
        intensities=tuple(inputs["mu"]),
        probabilities=tuple(inputs["p"]),
        key_counts=exactly(inputs["nX"]),
        test_counts=exactly(inputs["nZ"]),
        test_errors=exactly(inputs["mZ"]),
        leak_ec=float(expected["lambda_EC"]),
        eps_sec=inputs["eps_sec"],
        eps_cor=inputs["eps_cor"],
    )


@pytest.mark.parametrize("vector", LIM2014, ids=lambda v: v["id"])
def test_every_intermediate_is_the_printed_one_but_for_the_departures(vector):
    out, expected = bounds(premises(vector)), vector["expected"]

    names = EVENTS if vector["id"] in CLIPPED else EVENTS | ERRORS
    for theirs, ours in names.items():
        value = pytest.approx(float(expected[theirs]), rel=1e-9, abs=1e-9)
        assert getattr(out, ours) == value, theirs
    assert out.v_test_1 <= float(expected["v_Z1"]) * (1 + 1e-9)
    assert out.phi >= min(0.5, out.ratio + out.gamma)
    penalty = out.secrecy_cost + out.correctness_cost
    assert penalty == pytest.approx(float(expected["penalty"]), rel=1e-9)


def test_the_vectors_cover_the_printed_formula():
    assert len(LIM2014) == 11
    assert sum(v["expected"]["ell"] > 0 for v in LIM2014) == 7


@pytest.mark.parametrize("vector", WHOLE, ids=lambda v: v["id"])
def test_exact_tails_give_more_key_than_hoeffding_and_gamma(vector):
    exact, legacy = exact_bounds(premises(vector)), bounds(premises(vector))

    assert exact.s_key_1 >= legacy.s_key_1
    assert exact.v_test_1 <= legacy.v_test_1
    assert exact.n_secret >= legacy.n_secret
    if legacy.n_secret > 10_000_000:
        assert exact.n_secret > 1.002 * legacy.n_secret
    elif legacy.n_secret:
        assert exact.n_secret > 1.05 * legacy.n_secret


def test_without_a_test_error_the_length_is_less_than_the_printed_one():
    vector = VECTORS["lim-13"]

    out = bounds(premises(vector))

    assert out.phi > 0
    assert 0 < out.n_secret <= 3042438 < vector["expected"]["ell"]


@pytest.mark.parametrize("vector", LIM2014, ids=lambda v: v["id"])
def test_phi_is_never_below_the_exact_sampling_bound(vector):
    out = bounds(premises(vector))

    assert out.phi >= min(0.5, out.phi_sampling) > 0


@pytest.mark.parametrize("vector", SAMPLING, ids=lambda v: v["id"])
def test_the_exact_sampling_bound(vector):
    i = vector["inputs"]

    outside = errors_outside_max(i["x"], i["k"], i["n"], log(i["eps"]))

    assert outside == vector["expected"]["K_minus_x"]
