"""One block from sifted to secret bits, at either end; it reads like the protocol.

Each end has agreed on the plan before. What a stage raises ends the block: BlockDiscarded and
ChannelError are for the caller, who tells the peer why.
"""

from contextlib import ExitStack
from struct import Struct

from qkd_core.errors import ChannelError, VerificationFailed
from qkd_core.photons.acceptance import accept
from qkd_core.photons.amplification import amplify_alice, amplify_bob
from qkd_core.photons.entropy import Entropy
from qkd_core.photons.reconciliation.stage import reconcile_alice, reconcile_bob
from qkd_core.photons.verification import verify_alice, verify_bob
from qkd_core.ports import ClassicalChannel
from qkd_core.proofs.terms import evaluated
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import wipe
from qkd_core.types.blocks import (
    DistilledBlock,
    ReconciledKey,
    SecretKey,
    SiftedKey,
)
from qkd_core.types.evaluation import Evaluation
from qkd_core.types.plans import BlockPlan

ACCEPTANCE = Struct("<32s32sQQQQQ")  # two digests, then counts of bits
FIELDS = ("plan", "tallies", "about_key", "about_errors", "n_errors", "n_sifted", "n_secret")


def distil_alice(
    channel: ClassicalChannel, plan: BlockPlan, sifted: SiftedKey, entropy: Entropy
) -> DistilledBlock:
    """From sifted bits to secret ones at Alice's end; ``sifted.bits`` are wiped.

    Raises BlockDiscarded, ChannelError.
    """
    with ExitStack() as afterwards:
        afterwards.callback(wipe, sifted.bits)
        evaluation = evaluated(plan)
        reconciled = reconcile_alice(sifted, channel, plan, entropy)
        afterwards.callback(wipe, reconciled.bits)
        verify_alice(reconciled, channel, plan, entropy)
        accept(sifted.tallies, reconciled, plan)
        key = amplify_alice(reconciled, plan, channel, entropy)
        ours = _distilled(plan, evaluation, sifted, reconciled, key)
        channel.send_tagged(MessageKind.ACCEPTANCE, _statement(ours), transcript=True)
        _compare(ours, channel.receive_tagged(MessageKind.ACCEPTANCE, transcript=True))
        return ours


def distil_bob(
    channel: ClassicalChannel, plan: BlockPlan, sifted: SiftedKey, entropy: Entropy
) -> DistilledBlock:
    """From sifted bits to secret ones at Bob's end; ``sifted.bits`` are wiped.

    Raises BlockDiscarded, ChannelError.
    """
    with ExitStack() as afterwards:
        afterwards.callback(wipe, sifted.bits)
        evaluation = evaluated(plan)
        reconciled = reconcile_bob(sifted, channel, plan, entropy)
        afterwards.callback(wipe, reconciled.bits)
        verify_bob(reconciled, channel, plan)
        accept(sifted.tallies, reconciled, plan)
        key = amplify_bob(reconciled, plan, channel)
        ours = _distilled(plan, evaluation, sifted, reconciled, key)
        _compare(ours, channel.receive_tagged(MessageKind.ACCEPTANCE, transcript=True))
        channel.send_tagged(MessageKind.ACCEPTANCE, _statement(ours), transcript=True)
        return ours


def _distilled(
    plan: BlockPlan,
    evaluation: Evaluation,
    sifted: SiftedKey,
    reconciled: ReconciledKey,
    key: SecretKey,
) -> DistilledBlock:
    return DistilledBlock(
        plan=plan,
        evaluation=evaluation,
        tallies=sifted.tallies,
        disclosed=reconciled.disclosed,
        n_errors=reconciled.n_errors,
        n_sifted=sifted.n_bits,
        effort=reconciled.effort,
        key=key,
    )


def _statement(block: DistilledBlock) -> bytes:
    """What this end takes the block to be; the tag covers all that was said before, too."""
    return ACCEPTANCE.pack(
        bytes.fromhex(block.plan.digest),
        bytes.fromhex(block.tallies.digest),
        block.disclosed.about_key,
        block.disclosed.about_errors,
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
