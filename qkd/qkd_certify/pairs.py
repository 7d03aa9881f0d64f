"""Keys from entangled pairs: Tomamichel, Lim, Gisin, Renner, Nat. Commun. 3:634 (2012).

The length of the supplement's Eq. (S3) for the least numbers of key and test bits, with exact
sampling in the place of Serfling's inequality. The pattern of the errors is given to Eve, so that
what error correction says about it costs nothing.
"""

from fractions import Fraction

from qkd_certify.intervals import between, binary_entropy, exactly, log2
from qkd_certify.limits import Budget, PairLimits
from qkd_certify.sampling import errors_outside
from qkd_certify.theorem import HALF, ROUNDING_BITS, Derived, Part, correctness_cost

EPS_TEST_SHARE = Fraction(31, 64)  # of eps_sec = 2 eps_test + eps_hash
EPS_HASH_SHARE = Fraction(1, 32)
BOUNDS = (
    *("eps_test", "eps_hash", "phase_errors_max", "phi", "entropy"),
    *("secrecy_cost", "correctness_cost", "length"),
)


def secrecy(budget: Budget) -> tuple[Part, ...]:
    """The parts of eps_sec."""
    eps_test, eps_hash = _shares(budget)
    return (
        Part("secrecy: phase errors by sampling", eps_test, 2),
        Part("secrecy: privacy amplification", eps_hash, 1),
    )


def bbm92(limits: PairLimits, budget: Budget, slack: Fraction) -> Derived:
    """Sampling may fail with eps_test^2: supplement, Eq. (S13). ``slack``: of its logarithm."""
    eps_test, eps_hash = _shares(budget)
    n_key = limits.key[0]
    errors = errors_outside(limits.errors_max, (limits.test_min, n_key), eps_test**2, slack)
    phi = between(*(min(HALF, Fraction(each, n_key)) for each in errors))
    entropy = n_key * (1 - binary_entropy(phi))
    secrecy_cost = -2 * log2(2 * exactly(eps_hash))
    cost = correctness_cost(budget.eps_cor, limits.n_key_max)
    length = entropy - budget.leak_ec_max - secrecy_cost - cost - ROUNDING_BITS
    return Derived(
        bounds={
            "eps_test": exactly(eps_test),
            "eps_hash": exactly(eps_hash),
            "phase_errors_max": between(*errors),
            "phi": phi,
            "entropy": entropy,
            "secrecy_cost": secrecy_cost,
            "correctness_cost": cost,
            "length": length,
        },
        phi=phi,
        length=length,
    )


def _shares(budget: Budget) -> tuple[Fraction, Fraction]:
    eps_sec = Fraction(budget.eps_sec)
    return EPS_TEST_SHARE * eps_sec, EPS_HASH_SHARE * eps_sec
