"""Every formula against `finite_key.json`: each intermediate, under its name.

The values were made for this project, not published: 50-digit arithmetic of the printed formulas,
checked against the independent codes that the file names (SatQuMA 2.0, the code of the authors of
arXiv:2405.16578, the notebook of JSS-root/BBM92_Finite_Key). `tests/published` has published ones.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from qkd_core.proofs.functions import FUNCTIONS, evaluate

FILE = Path(__file__).with_name("finite_key.json")
VECTORS = json.loads(FILE.read_text(encoding="ascii"))
SAID_BESIDE = {"in_domain", "out_of_domain"}
WITHOUT_A_THEOREM = {"lim-13"}  # no test error, of which gamma makes a bound of 0


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["id"])
def test_every_intermediate(vector):
    out = evaluate(vector["function"], vector["inputs"])

    assert out.keys() == vector["expected"].keys() | SAID_BESIDE
    for name, expected in vector["expected"].items():
        if isinstance(expected, int):
            assert out[name] == expected, name
        elif isinstance(expected, list):
            assert out[name] == pytest.approx(expected, rel=1e-11), name
        else:  # without an absolute tolerance: 0 has to be 0
            assert out[name] == pytest.approx(float(expected), rel=1e-11, abs=0), name
    assert out["in_domain"] is (vector["id"] not in WITHOUT_A_THEOREM)


def test_the_file_has_all_vectors():
    assert len(VECTORS) == 43
    counted = Counter(vector["function"] for vector in VECTORS)
    assert set(FUNCTIONS) - set(counted) == {"dejmps"}


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if (v.get("external") or {}).get("ell")], ids=lambda v: v["id"]
)
def test_the_independent_codes_agree(vector):
    """SatQuMA's third intensity is 1e-9 for a vacuum, and its own digits end before ours."""
    theirs = vector["external"]["ell"]

    out = evaluate(vector["function"], vector["inputs"])

    assert out["ell_real"] == pytest.approx(theirs, rel=1e-10)


def test_other_bounds_on_the_counts_of_one_vector():
    """Chernoff's 6315302 bits and the limit of many counts were computed apart from this code."""
    inputs = next(v["inputs"] for v in VECTORS if v["id"] == "lim-03")

    lengths = {
        bound: evaluate("lim2014", {**inputs, "bound": bound})["ell"]
        for bound in ("hoeffding", "chernoff", "asymptotic")
    }

    assert lengths == {"hoeffding": 5303534, "chernoff": 6315302, "asymptotic": 7353907}
