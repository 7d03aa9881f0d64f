from fractions import Fraction

import numpy as np
import pytest

from qkd_core.errors import PlanRefused, VerificationFailed
from qkd_core.photons.verification import verify_alice, verify_bob
from qkd_core.proofs.correctness import correctness_cost_bits, verification_bits
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import ReconciledKey
from qkd_core.types.reconciliation import NOTHING, Effort

IDLE = Effort(rounds=0, frames=0, frames_failed=0, bytes_sent=0, bytes_received=0)


def key(n_bits, flipped=None, seed=1):
    words = np.random.default_rng(seed).integers(0, 2**64, (n_bits + 63) // 64, np.uint64)
    if n_bits % 64:
        words[-1] &= np.uint64((1 << n_bits % 64) - 1)
    if flipped is not None:
        words[flipped // 64] ^= np.uint64(1 << flipped % 64)
    return ReconciledKey(1, words, n_bits, NOTHING, 0, IDLE)


@pytest.mark.parametrize("n_bits", [0, 1, 64, 65, 128, 1000])
def test_equal_keys_pass_and_reveal_only_the_planned_bits(run_both, plan, entropy, n_bits):
    out = run_both(
        lambda channel: verify_alice(key(n_bits), channel, plan, entropy),
        lambda channel: verify_bob(key(n_bits), channel, plan),
    )

    assert out.alice is None
    assert out.bob is None
    ((kind, body),) = out.sent["alice"]
    assert kind is MessageKind.VERIFICATION
    assert int.from_bytes(body[32:], "little") < 2**50  # ceil(log2(1 / 1e-15))


@pytest.mark.parametrize("flipped", [0, 63, 64, 127, 128, 999])
def test_one_wrong_bit_is_found(run_both, plan, entropy, flipped):
    out = run_both(
        lambda channel: verify_alice(key(1000), channel, plan, entropy),
        lambda channel: verify_bob(key(1000, flipped), channel, plan),
    )

    assert isinstance(out.bob, VerificationFailed)


def test_the_hash_is_as_short_as_eps_cor_allows_and_the_theorem_pays_for_it():
    for eps_cor in (1e-6, 1e-10, 1e-15, 2.0**-40, 0.3 * 2.0**-40):
        for n_bits in (1, 10**4, 10**6):
            t = verification_bits(eps_cor, n_bits)
            collision = Fraction(-(-n_bits // 128) + 1, 2**128)
            assert Fraction(1, 2**t) + collision <= Fraction(eps_cor)
            assert Fraction(1, 2 ** (t - 1)) + collision > Fraction(eps_cor)
            assert t <= correctness_cost_bits(eps_cor, n_bits)


def test_an_eps_cor_below_the_field_is_refused():
    with pytest.raises(PlanRefused):
        verification_bits(2.0**-120, 10**6)
