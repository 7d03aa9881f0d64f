"""The verifier's own figures against `finite_key.json`, made for this project in 50 digits."""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from qkd_certify import CertificateRefused
from qkd_certify.decoy import _gamma, lim2014
from qkd_certify.intervals import exactly, high, low
from qkd_certify.limits import Budget, DecoyLimits
from qkd_certify.sampling import errors_outside

FILE = Path(__file__).parents[2] / "vectors" / "finite_key.json"
VECTORS = json.loads(FILE.read_text(encoding="ascii"))
SAMPLING = [v for v in VECTORS if v["function"] == "hypergeom_upper_errors"]
LIM2014 = [
    v
    for v in VECTORS
    if v["function"] == "lim2014"
    and v["inputs"].get("bound", "hoeffding") == "hoeffding"
    and all(type(count) is int for count in (*v["inputs"]["nX"], *v["inputs"]["nZ"]))
]
FEW_ERRORS = {"lim-13"}
NAMES = {
    "tau0": "tau_0",
    "tau1": "tau_1",
    "s_X0": "s_key_0",
    "s_X1": "s_key_1",
    "s_Z0": "s_test_0",
    "s_Z1": "s_test_1",
}


def derived(vector):
    """Of exactly these counts, and no bit disclosed."""
    inputs = vector["inputs"]
    first, second, third = inputs["mZ"]
    limits = DecoyLimits(
        n_pulses=1,
        intensities=tuple(inputs["mu"]),
        probabilities=tuple(inputs["p"]),
        p_key_basis=0.5,
        key=tuple((count, count) for count in inputs["nX"]),
        test=tuple((count, count) for count in inputs["nZ"]),
        errors_max=(first, second, third),
    )
    budget = Budget(eps_sec=inputs["eps_sec"], eps_cor=inputs["eps_cor"], leak_ec_max=0)
    return lim2014(limits, budget, Fraction(0))


def told(vector, name):
    return Fraction(vector["expected"][name])


@pytest.mark.parametrize("vector", LIM2014, ids=lambda v: v["id"])
def test_events_of_the_paper_lie_in_their_intervals(vector):
    """To the digits in which the vectors' intensities are doubles."""
    if vector["id"] in FEW_ERRORS:
        with pytest.raises(CertificateRefused, match="gamma"):
            derived(vector)
        return

    bounds = derived(vector).bounds

    for theirs, ours in NAMES.items():
        spare = told(vector, theirs) / 10**13
        assert low(bounds[ours]) - spare <= told(vector, theirs) <= high(bounds[ours]) + spare
        assert high(bounds[ours]) - low(bounds[ours]) <= told(vector, theirs) / 10**30


@pytest.mark.parametrize("vector", LIM2014, ids=lambda v: v["id"])
def test_the_deviation_of_the_phase_error_rate_is_the_papers(vector):
    """Of the vector's own ratio and events. Its zero at no error is no bound, and not ours."""
    ratio, s_test_1, s_key_1 = (exactly(told(vector, n)) for n in ("ratio", "s_Z1", "s_X1"))
    if vector["id"] in FEW_ERRORS:
        assert told(vector, "gamma") == 0
        return

    gamma = _gamma(ratio, s_test_1, s_key_1, Fraction(vector["inputs"]["eps_sec"]) / 21)

    assert float(low(gamma)) == pytest.approx(float(told(vector, "gamma")), rel=1e-12)


@pytest.mark.parametrize("vector", SAMPLING, ids=lambda v: v["id"])
def test_the_exact_sampling_bound(vector):
    i = vector["inputs"]

    outside = errors_outside(i["x"], (i["k"], i["n"]), Fraction(i["eps"]), Fraction(0))

    assert outside == (vector["expected"]["K_minus_x"],) * 2
