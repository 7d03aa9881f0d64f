"""One block from detections to secret bits, at either end; it reads like the protocol.

Each end has agreed on the plan before. What a stage raises ends the block: BlockDiscarded and
ChannelError are for the caller, who tells the peer why.
"""

from collections.abc import Callable
from contextlib import ExitStack
from struct import Struct

from qkd_core.errors import ChannelError, VerificationFailed
from qkd_core.photons.acceptance import accept
from qkd_core.photons.alignment import align
from qkd_core.photons.amplification import amplify_alice, amplify_bob
from qkd_core.photons.entropy import Entropy
from qkd_core.photons.reconciliation.cascade import reconcile_alice, reconcile_bob
from qkd_core.photons.sifting import SettingsOf, sift_alice, sift_bob
from qkd_core.photons.verification import verify_alice, verify_bob
from qkd_core.ports import ClassicalChannel
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import wipe
from qkd_core.types.blocks import (
    BlockPlan,
    Detections,
    DistilledBlock,
    ReconciledKey,
    SecretKey,
    SiftedKey,
    Tallies,
)

ACCEPTANCE = Struct("<32s32sQQQQ")  # plan, tallies (digests); leak_ec, n_errors, n_sifted, n_secret
FIELDS = ("plan", "tallies", "leak_ec", "n_errors", "n_sifted", "n_secret")


def distil_alice(
    channel: ClassicalChannel,
    plan: BlockPlan,
    settings_of: SettingsOf,
    entropy: Entropy,
    learn_from: Callable[[Tallies], None] | None = None,
) -> DistilledBlock:
    """Run one block at the preparing end. Raises BlockDiscarded, ChannelError, LinkError.

    The array that ``settings_of`` returns is wiped. ``learn_from`` is called with the tallies
    even if the block is discarded later: a planner that learned from accepted blocks only would
    never find back to a link that has changed.
    """
    with ExitStack() as afterwards:
        sifted = sift_alice(channel, plan.block_id, plan.settings, settings_of)
        afterwards.callback(wipe, sifted.bits)
        if learn_from is not None:
            learn_from(sifted.tallies)
        reconciled = reconcile_alice(sifted, channel, plan, entropy)
        afterwards.callback(wipe, reconciled.bits)
        verify_alice(reconciled, channel, plan, entropy)
        accept(sifted.tallies, reconciled, plan)
        key = amplify_alice(reconciled, plan, channel, entropy)
        ours = _distilled(plan, sifted, reconciled, key)
        channel.send_tagged(MessageKind.ACCEPTANCE, _statement(ours), transcript=True)
        _compare(ours, channel.receive_tagged(MessageKind.ACCEPTANCE, transcript=True))
        return ours


def distil_bob(
    channel: ClassicalChannel, plan: BlockPlan, detections: Detections, entropy: Entropy
) -> DistilledBlock:
    """Run one block at the detecting end. Raises BlockDiscarded, ChannelError, LinkError.

    ``detections.detector`` is wiped.
    """
    with ExitStack() as afterwards:
        afterwards.callback(wipe, detections.detector)
        raw = align(detections, plan.settings, entropy)
        afterwards.callback(wipe, raw.bit)
        sifted = sift_bob(raw, channel, plan.settings)
        afterwards.callback(wipe, sifted.bits)
        reconciled = reconcile_bob(sifted, channel, plan)
        afterwards.callback(wipe, reconciled.bits)
        verify_bob(reconciled, channel, plan)
        accept(sifted.tallies, reconciled, plan)
        key = amplify_bob(reconciled, plan, channel)
        ours = _distilled(plan, sifted, reconciled, key)
        _compare(ours, channel.receive_tagged(MessageKind.ACCEPTANCE, transcript=True))
        channel.send_tagged(MessageKind.ACCEPTANCE, _statement(ours), transcript=True)
        return ours


def _distilled(
    plan: BlockPlan, sifted: SiftedKey, reconciled: ReconciledKey, key: SecretKey
) -> DistilledBlock:
    return DistilledBlock(
        plan, sifted.tallies, reconciled.leak_ec, reconciled.n_errors, sifted.n_bits, key
    )


def _statement(block: DistilledBlock) -> bytes:
    """What this end takes the block to be; the tag covers all that was said before, too."""
    return ACCEPTANCE.pack(
        bytes.fromhex(block.plan.digest),
        bytes.fromhex(block.tallies.digest),
        block.leak_ec,
        block.n_errors,
        block.n_sifted,
        block.key.n_bits,
    )


def _compare(block: DistilledBlock, statement: bytes) -> None:
    """Raise VerificationFailed unless the peer takes the block to be the same."""
    if len(statement) != ACCEPTANCE.size:
        raise ChannelError(f"acceptance: {len(statement)} bytes, expected {ACCEPTANCE.size}")
    ours, theirs = ACCEPTANCE.unpack(_statement(block)), ACCEPTANCE.unpack(statement)
    for name, here, there in zip(FIELDS, ours, theirs, strict=True):
        if here != there:
            raise VerificationFailed(f"the two ends disagree about {name} of this block")
