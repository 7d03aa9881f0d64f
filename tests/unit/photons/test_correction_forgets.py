"""What error correction kept of the key is gone when it ends, well or badly."""

import os

import numpy as np
import pytest

from qkd_core.errors import ChannelError
from qkd_core.photons.pair_sifting import sift_pairs
from qkd_core.photons.reconciliation import cascade, ldpc
from qkd_core.ports.link import Outcomes
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import PairTallies, SiftedKey
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.reconciliation import Method, Reconciliation

N = 20_000


def sifted(seed):
    bits = np.random.default_rng(seed).integers(0, 2**64, (N + 63) // 64, dtype=np.uint64)
    bits[-1] &= np.uint64((1 << N % 64) - 1)
    tallies = PairTallies(n_key=N, n_test=1, test_errors=0)
    return SiftedKey(BlockId(1), bits, N, tallies)


class Broken:
    """A channel that takes the first message and breaks."""

    def send(self, _kind, _body):
        pass

    def receive(self, kind):
        raise ChannelError(f"broken, {kind.name} was due")


HOWS = {
    "cascade": (cascade, Reconciliation(method=Method.CASCADE, variant="fast4", frame_bits=8192)),
    "single": (ldpc, Reconciliation(method=Method.LDPC, variant="single", frame_bits=1 << 17)),
    "blind": (ldpc, Reconciliation(method=Method.LDPC, variant="blind", frame_bits=1 << 17)),
}


def arrays_of(end):
    reference, corrector = end.reference, end.corrector
    if hasattr(corrector, "_original"):
        own = (reference.bits, reference._prefixes, corrector.bits, corrector._original)
        return [*own, corrector._apart, corrector.key]
    return [corrector.bits, *reference._coded.values()]


@pytest.mark.parametrize("name", HOWS)
@pytest.mark.parametrize("roles_swap", [False, True])
def test_a_broken_channel_leaves_nothing_of_the_key_behind(monkeypatch, plan_for, name, roles_swap):
    method, how = HOWS[name]
    how = Reconciliation(
        method=how.method, variant=how.variant, frame_bits=how.frame_bits, roles_swap=roles_swap
    )
    maker, made = ("end_at", "_end")[method is ldpc], []
    original = getattr(method, maker)

    def remembered(*arguments, **named):
        made.append(original(*arguments, **named))
        return made[0]

    monkeypatch.setattr(method, maker, remembered)
    with pytest.raises(ChannelError, match="broken"):
        method.reconcile_alice(sifted(1), Broken(), plan_for(how, N, 0.02), os.urandom)

    kept = arrays_of(made[0])
    assert sum(array.size for array in kept) > 300
    assert not any(array.any() for array in kept)


def test_key_bits_are_wiped_when_the_test_bits_do_not_come():
    outcomes = Outcomes(100, 1, np.full(2, 7, np.uint64), np.full(1, 1, np.uint64))

    with pytest.raises(ChannelError, match=MessageKind.TEST_BITS.name):
        sift_pairs(outcomes, Broken(), BlockId(1), Side.A)

    assert not outcomes.key.any()
