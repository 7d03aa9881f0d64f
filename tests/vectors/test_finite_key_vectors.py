"""Lim et al. 2014 and the sampling bound against `finite_key.json`.

The values were made for this project, not published: 50-digit arithmetic, checked against the
independent codes that the file names (SatQuMA 2.0 for lim-sat-1). Formulas: the docstring of
`qkd_core.proofs.lim2014`. Vectors of other theorems in the file wait for theirs.
"""

import json
from math import log
from pathlib import Path

import pytest

from qkd_core.proofs.lim2014 import Premises, bounds
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
INTERMEDIATES = {
    "tau0": "tau_0",
    "tau1": "tau_1",
    "s_X0": "s_key_0",
    "s_X1": "s_key_1",
    "s_Z0": "s_test_0",
    "s_Z1": "s_test_1",
    "v_Z1": "v_test_1",
    "ratio": "ratio",
    "gamma": "gamma",
    "phi_X": "phi",
    "ell_real": "length",
}


def premises(vector, **changes):
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
        **changes,
    )


@pytest.mark.parametrize("vector", LIM2014, ids=lambda v: v["id"])
def test_the_printed_formula_and_every_intermediate(vector):
    out, expected = bounds(premises(vector, as_printed=True)), vector["expected"]

    for theirs, ours in INTERMEDIATES.items():
        value = pytest.approx(float(expected[theirs]), rel=1e-9, abs=1e-9)
        assert getattr(out, ours) == value, theirs
    penalty = out.secrecy_cost + out.correctness_cost
    assert penalty == pytest.approx(float(expected["penalty"]), rel=1e-9)
    assert out.n_secret == expected["ell"]


def test_the_vectors_cover_the_printed_formula():
    assert len(LIM2014) == 11
    assert sum(v["expected"]["ell"] > 0 for v in LIM2014) == 7


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
