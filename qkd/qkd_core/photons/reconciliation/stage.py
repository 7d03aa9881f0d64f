"""Error correction by the method that the plan names: the other end's bits, or nothing."""

from types import ModuleType

from qkd_core.photons.entropy import Entropy
from qkd_core.photons.reconciliation import cascade, ldpc, untouched
from qkd_core.ports import ClassicalChannel
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
    key: ReconciledKey = method.reconcile_alice(sifted, channel, plan, entropy)
    return key


def reconcile_bob(
    sifted: SiftedKey, channel: ClassicalChannel, plan: BlockPlan, entropy: Entropy
) -> ReconciledKey:
    """Bob's end. Raises ReconciliationFailed, ChannelError, PeerAborted."""
    method = METHODS[plan.reconciliation.method]
    key: ReconciledKey = method.reconcile_bob(sifted, channel, plan, entropy)
    return key


def disclosed_expected(n_bits: int, qber: float, how: Reconciliation) -> Disclosed:
    """About what will be announced for ``n_bits`` with an error rate of ``qber``."""
    expected: Disclosed = METHODS[how.method].disclosed_expected(n_bits, qber, how)
    return expected
