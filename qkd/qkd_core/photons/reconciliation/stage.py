"""Error correction by the method that the plan names: the other end's bits, or nothing."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from types import ModuleType

from qkd_core.photons.entropy import Entropy
from qkd_core.photons.reconciliation import cascade, ldpc, untouched
from qkd_core.photons.reconciliation.dealing import dealt, put_back
from qkd_core.ports import ClassicalChannel
from qkd_core.types.bits import wipe
from qkd_core.types.blocks import ReconciledKey, SiftedKey
from qkd_core.types.plans import BlockPlan
from qkd_core.types.reconciliation import Disclosed, Method, Reconciliation

METHODS: dict[Method, ModuleType] = {
    Method.CASCADE: cascade,
    Method.LDPC: ldpc,
    Method.NONE: untouched,
}


def reconcile_alice(
    sifted: SiftedKey, channel: ClassicalChannel, plan: BlockPlan, entropy: Entropy
) -> ReconciledKey:
    """Alice's end. Raises ReconciliationFailed, ChannelError, PeerAborted."""
    method = METHODS[plan.reconciliation.method]
    return _corrected(sifted, lambda bits: method.reconcile_alice(bits, channel, plan, entropy))


def reconcile_bob(
    sifted: SiftedKey, channel: ClassicalChannel, plan: BlockPlan, entropy: Entropy
) -> ReconciledKey:
    """Bob's end. Raises ReconciliationFailed, ChannelError, PeerAborted."""
    method = METHODS[plan.reconciliation.method]
    return _corrected(sifted, lambda bits: method.reconcile_bob(bits, channel, plan, entropy))


def _corrected(sifted: SiftedKey, correct: Callable[[SiftedKey], ReconciledKey]) -> ReconciledKey:
    """Deal the words out, correct them, and put them back; what is between is wiped."""
    with ExitStack() as afterwards:
        mixed = replace(sifted, bits=dealt(sifted.bits, sifted.n_bits))
        afterwards.callback(wipe, mixed.bits)
        key = correct(mixed)
        afterwards.callback(wipe, key.bits)
        return replace(key, bits=put_back(key.bits, key.n_bits))


def disclosed_expected(n_bits: int, qber: float, how: Reconciliation) -> Disclosed:
    """About what will be announced for ``n_bits`` with an error rate of ``qber``."""
    expected: Disclosed = METHODS[how.method].disclosed_expected(n_bits, qber, how)
    return expected
