"""The decoy theorems whose bounds are held against the truth, and the links that they are for."""

from typing import Any

from decoy_coverage import EPSILON, Case, Tried, cases

from qkd_core.proofs import decoy1_exact, decoy2_exact, lim2014, one_decoy, two_decoys
from qkd_core.proofs.premises import Premises
from qkd_core.types.plans import DecoySettings

# Lim et al. 2014: Eqs (2), (3) with (2), (4), and (5) with all of those and the sampling.
TWO_DECOYS = {
    "s_key_0": 2,
    "s_test_0": 2,
    "s_key_1": 5,
    "s_test_1": 5,
    "v_test_1": 2,
    "phi": 12 + EPSILON,
}
# Two expected counts for each least number of events, and the vacuum's tail for single photons.
ONE_DECOY = {
    "s_key_0_max": 1,
    "s_test_0_max": 1,
    "s_key_0": 2,
    "s_test_0": 2,
    "s_key_1": 3,
    "s_test_1": 3,
    "v_test_1": 2,
    "phi": 8 + EPSILON,
}


def _two(_: DecoySettings, **told: Any) -> Premises:
    return Premises(**told)


def _one(settings: DecoySettings, **told: Any) -> one_decoy.Premises:
    return one_decoy.Premises(**told, p_key_basis=settings.p_key_basis)


THEOREMS = {
    lim2014.THEOREM: Tried(
        premises=_two,
        bounds=lim2014.bounds,
        parts=two_decoys.EPSILON_PARTS,
        rests_on=TWO_DECOYS,
    ),
    decoy2_exact.THEOREM: Tried(
        premises=_two,
        bounds=decoy2_exact.bounds,
        parts=two_decoys.EPSILON_PARTS,
        rests_on=TWO_DECOYS,
    ),
    decoy1_exact.THEOREM: Tried(
        premises=_one,
        bounds=decoy1_exact.bounds,
        parts=one_decoy.EPSILON_PARTS,
        rests_on=ONE_DECOY,
    ),
}
_TWO, _ONE = cases(), cases("direct-25km-one-decoy")
CASES: dict[str, dict[str, Case]] = {
    theorem: _ONE if theorem == decoy1_exact.THEOREM else _TWO for theorem in THEOREMS
}
