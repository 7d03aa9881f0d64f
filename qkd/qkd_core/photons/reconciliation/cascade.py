"""Cascade between two ends: each round is one PARITIES and one DIFFERENCES message.

In a round Alice announces parities of her bits, one for each interval that both ends know to be
next, and Bob answers with the sums of hers and his own. The messages hold nothing else, so
``leak_ec`` is the number of bits in them. Bob's answers count like Alice's: they speak of the
errors, and the errors may be Eve's (Tupkary and Luetkenhaus, arXiv:2307.00576). The length of
the secret key pays for both by the chain rule for classical messages.
"""

from dataclasses import dataclass

import numpy as np

from qkd_core.errors import ChannelError, ReconciliationFailed
from qkd_core.photons.bodies import bits_from_body, bits_to_body
from qkd_core.photons.entropy import Entropy
from qkd_core.photons.reconciliation.bisection import Disclose, correct, pass_block_bits
from qkd_core.ports import ClassicalChannel
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import PackedBits
from qkd_core.types.blocks import BlockPlan, ReconciledKey, SiftedKey

SEED_BYTES = 8
MAX_ROUNDS = 5000  # a healthy block takes 50 to 400


@dataclass(slots=True)
class Budget:
    """What the ends have announced so far; equal at both, so that both give up together."""

    leak_ec_max: int
    leak_ec: int = 0
    rounds: int = 0

    def spend(self, n_parities: int) -> None:
        """Count a round before it is sent. Raises ReconciliationFailed when it is one too many."""
        leak_ec = self.leak_ec + 2 * n_parities  # one bit in each direction
        if leak_ec > self.leak_ec_max:
            raise ReconciliationFailed(f"{leak_ec} bits leaked, the plan allows {self.leak_ec_max}")
        if self.rounds == MAX_ROUNDS:
            raise ReconciliationFailed(f"not done after {MAX_ROUNDS} rounds")
        self.leak_ec, self.rounds = leak_ec, self.rounds + 1


def reconcile_alice(
    sifted: SiftedKey, channel: ClassicalChannel, plan: BlockPlan, entropy: Entropy
) -> ReconciledKey:
    """Let Bob find his errors; Alice's bits stay as they are.

    Raises ReconciliationFailed, ChannelError, PeerAborted.
    """
    body = entropy(SEED_BYTES)
    channel.send(MessageKind.PERMUTATION, body)
    budget = Budget(plan.leak_ec_max)
    flips = _flips(sifted, plan, body, _asked(channel, budget))
    return _reconciled(sifted, sifted.bits, flips, budget)


def reconcile_bob(sifted: SiftedKey, channel: ClassicalChannel, plan: BlockPlan) -> ReconciledKey:
    """Correct Bob's bits to Alice's.

    Raises ReconciliationFailed, ChannelError, PeerAborted.
    """
    body = channel.receive(MessageKind.PERMUTATION)
    if len(body) != SEED_BYTES:
        raise ChannelError(f"permutation: {len(body)} bytes, expected {SEED_BYTES}")
    budget = Budget(plan.leak_ec_max)
    flips = _flips(sifted, plan, body, _answered(channel, budget))
    return _reconciled(sifted, sifted.bits ^ flips, flips, budget)


def _asked(channel: ClassicalChannel, budget: Budget) -> Disclose:
    def disclose(parities: PackedBits, n: int) -> PackedBits:
        budget.spend(n)
        channel.send(MessageKind.PARITIES, bits_to_body(parities, n))
        return bits_from_body(channel.receive(MessageKind.DIFFERENCES), n, "differences")

    return disclose


def _answered(channel: ClassicalChannel, budget: Budget) -> Disclose:
    def disclose(parities: PackedBits, n: int) -> PackedBits:
        budget.spend(n)
        theirs = bits_from_body(channel.receive(MessageKind.PARITIES), n, "parities")
        differences = parities ^ theirs
        channel.send(MessageKind.DIFFERENCES, bits_to_body(differences, n))
        return differences

    return disclose


def _flips(sifted: SiftedKey, plan: BlockPlan, seed: bytes, disclose: Disclose) -> PackedBits:
    sizes = pass_block_bits(sifted.n_bits, plan.qber_expected)
    return correct(sifted.bits, sifted.n_bits, sizes, int.from_bytes(seed, "little"), disclose)


def _reconciled(
    sifted: SiftedKey, bits: PackedBits, flips: PackedBits, budget: Budget
) -> ReconciledKey:
    n_errors = int(np.bitwise_count(flips).sum())
    return ReconciledKey(sifted.block_id, bits, sifted.n_bits, budget.leak_ec, n_errors)
