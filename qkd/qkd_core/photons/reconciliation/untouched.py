"""No error correction, for bits that are equal at both ends already, or the block is dropped.

Verification finds out whether they are, as after any other method.
"""

from qkd_core.photons.entropy import Entropy
from qkd_core.ports import ClassicalChannel
from qkd_core.types.blocks import ReconciledKey, SiftedKey
from qkd_core.types.plans import BlockPlan
from qkd_core.types.reconciliation import NOTHING, Disclosed, Effort, Reconciliation

NO_EFFORT = Effort(rounds=0, frames=0, frames_failed=0, bytes_sent=0, bytes_received=0)


def disclosed_expected(_n_bits: int, _qber: float, _how: Reconciliation) -> Disclosed:
    return NOTHING


def reconcile_alice(
    sifted: SiftedKey, _channel: ClassicalChannel, _plan: BlockPlan, _entropy: Entropy
) -> ReconciledKey:
    """The same bits, at either end; nothing is said."""
    return ReconciledKey(
        block_id=sifted.block_id,
        bits=sifted.bits,
        n_bits=sifted.n_bits,
        disclosed=NOTHING,
        n_errors=0,
        effort=NO_EFFORT,
    )


reconcile_bob = reconcile_alice
