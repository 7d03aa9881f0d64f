"""Finite-key decoy BB84 with one decoy, each statistical step by exact tails.

The protocol and the linear bounds are those of Rusca, Boaron, Grunenfelder, Martin, Zbinden, APL
112, 171104 (2018), see `proofs.one_decoy`; the composition to a length, with thresholds that are
fixed before the block, is that of Lim et al., PRA 89, 022307 (2014), Eq. (1), evaluated at the
weakest ends of accepted intervals as in `proofs.lim2014`. What differs from Rusca et al.:

- *Vacuum events of both bases from the errors of the decoy in the test basis* by one exact tail
  each (`proofs.negative_binomial`). The paper takes those of the key basis from the errors of the
  key, which are known after error correction only, so that acceptance could not come before it.
- *Expected counts and phase errors* by `proofs.exact_tails`, not by Hoeffding's inequality and
  gamma.
- *Errors of single photons* from each intensity by itself, the smaller of the two.

The parts of eps_sec are 17 and equal: the nine of the entropy as in Lim et al., Eq. (B4); four
expected counts (the greatest of the signal and the least of the decoy, in two bases; vacuum and
single-photon events share them); the greatest errors of both intensities; two vacuum tails.

Rounding is outward up to phi; a bit is taken off for the rest, see `entropy.ROUNDING_BITS`.
"""

from dataclasses import asdict, dataclass

from qkd_core.proofs import exact_tails
from qkd_core.proofs.epsilon_parts import equal_part
from qkd_core.proofs.exact_tails import PhotonNumbers, expected_counts, length
from qkd_core.proofs.one_decoy import (
    DECOY,
    EPSILON_PARTS,
    Premises,
    events,
    most_vacuum,
    single_photon_errors,
)
from qkd_core.proofs.premises import Light

THEOREM = "decoy1-exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds(exact_tails.Bounds):
    """Every intermediate of the length; s_key_0_max, s_test_0_max: vacuum events, at most."""

    s_key_0_max: int
    s_test_0_max: int


def bounds(premises: Premises) -> Bounds:
    """Evaluate the length. Source: Rusca et al. 2018, appendix, as the module says."""
    light, eps_1 = Light.of(premises), equal_part(premises.eps_sec, EPSILON_PARTS)
    key, test, errors = premises.key_counts, premises.test_counts, premises.test_errors
    s_key_0_max, s_test_0_max = most_vacuum(
        light,
        errors[DECOY].high,
        premises.p_key_basis,
        eps_1,
        (sum(count.high for count in key), sum(count.high for count in test)),
    )
    s_key_0, s_key_1 = events(light, key, expected_counts(key, eps_1), s_key_0_max)
    s_test_0, s_test_1 = events(light, test, expected_counts(test, eps_1), s_test_0_max)
    found = PhotonNumbers(
        s_key_0=s_key_0,
        s_key_1=s_key_1,
        s_test_0=s_test_0,
        s_test_1=s_test_1,
        v_test_1=single_photon_errors(light, errors, expected_counts(errors, eps_1)),
    )
    common = asdict(length(found, premises, eps_1))
    return Bounds(**common, s_key_0_max=s_key_0_max, s_test_0_max=s_test_0_max)
