"""How often the phase errors of entangled pairs are more than `proofs.bbm92` allows."""

from functools import cache

import numpy as np

from qkd_core.proofs import bbm92

EPSILON = 1e-2  # failure probability of the sampling: the square of eps_test
EPS_SEC = EPSILON**0.5 / bbm92.EPS_TEST_SHARE
N_KEY, N_TEST = 30_000, 10_000
ERRORS = (40, 400, 2_000, 10_000)  # of the key and the test together; the most is 1 in 4


@cache
def phase_errors_max(test_errors: int) -> int:
    premises = bbm92.Premises(
        n_key=N_KEY,
        n_test=N_TEST,
        test_errors_max=test_errors,
        leak_ec=0,
        eps_sec=EPS_SEC,
        eps_cor=1e-9,
    )
    return bbm92.bounds(premises).phase_errors_max


def violations(errors: int, n_blocks: int, seed: int) -> int:
    """Blocks whose key has more phase errors than their test allows.

    Of the key and the test together ``errors`` pairs are wrong, which is Eve's choice; which of
    them are tested is not.
    """
    rng = np.random.default_rng(seed)
    seen = rng.hypergeometric(errors, N_KEY + N_TEST - errors, N_TEST, n_blocks)
    allowed = np.array([phase_errors_max(int(x)) for x in seen])
    return int(np.sum(errors - seen > allowed))
