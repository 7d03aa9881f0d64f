"""Finite-key decoy BB84 with two decoys, each statistical step by exact tails.

The structure, the budget of 21 equal parts of eps_sec and the length are those of Lim, Curty,
Walenta, Xu, Zbinden, PRA 89 022307 (2014), Eqs (1) to (4); see `proofs.lim2014` for its use with
accepted intervals, which is the same here. What differs:

- *Expected counts and phase errors* by `proofs.exact_tails`, with eps_sec / 21 for each of the ten
  bounds of the mean that s_0 and s_1 take in two bases, and for the two of the errors. Hoeffding's
  inequality, in the paper, knows the total only and charges the near vacuum for the fluctuation of
  the signal. There is no gamma.
- v_1 is not above all errors of the test, s_0 + s_1 not above all events, phi not above 1/2,
  where there is no key; expected counts are not below 0.

Rounding is outward up to phi; a bit is taken off for the rest, see `entropy.ROUNDING_BITS`.
"""

from qkd_core.proofs.epsilon_parts import equal_part
from qkd_core.proofs.exact_tails import Bounds, PhotonNumbers, expected_counts, length
from qkd_core.proofs.premises import Light, Premises
from qkd_core.proofs.two_decoys import EPSILON_PARTS, events, single_photon_errors

THEOREM = "decoy2-exact"


def bounds(premises: Premises) -> Bounds:
    """Evaluate the length. Source: Lim et al. 2014, Eqs (1) to (4), with exact tails."""
    light, eps_1 = Light.of(premises), equal_part(premises.eps_sec, EPSILON_PARTS)
    key, test, errors = premises.key_counts, premises.test_counts, premises.test_errors
    s_key_0, s_key_1 = events(light, key, expected_counts(key, eps_1))
    s_test_0, s_test_1 = events(light, test, expected_counts(test, eps_1))
    found = PhotonNumbers(
        s_key_0=s_key_0,
        s_key_1=s_key_1,
        s_test_0=s_test_0,
        s_test_1=s_test_1,
        v_test_1=single_photon_errors(light, errors, expected_counts(errors, eps_1)),
    )
    return length(found, premises, eps_1)
