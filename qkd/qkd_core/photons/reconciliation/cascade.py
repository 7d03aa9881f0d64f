"""Cascade between two ends that take turns: one message each way a round, for a whole block.

Alice speaks first. A message holds what its sender tells of the frames that are corrected at the
other end, and what it asks of those that are corrected here; with roles that do not swap, one of
the two is empty. A message ends the conversation when no frame is open after it.

Every parity told counts for what it says of the key. The questions say where parities differ, and
so of the errors: they follow from one bit for each parity told. These may be Eve's errors, so
these bits count too under a theorem that does not give her the errors anyway (Tupkary and
Luetkenhaus, arXiv:2307.00576).
"""

from contextlib import closing
from dataclasses import dataclass
from math import ceil

import numpy as np

from qkd_core.errors import ChannelError, ReconciliationFailed
from qkd_core.photons.entropy import Entropy
from qkd_core.photons.reconciliation.budget import Budget
from qkd_core.photons.reconciliation.cascade_corrector import Corrector
from qkd_core.photons.reconciliation.cascade_passes import Agreed, about_key_expected, passes
from qkd_core.photons.reconciliation.cascade_reference import Reference, Words
from qkd_core.photons.reconciliation.frames import cut
from qkd_core.ports import ClassicalChannel
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import wipe
from qkd_core.types.blocks import ReconciledKey, SiftedKey
from qkd_core.types.plans import BlockPlan
from qkd_core.types.reconciliation import Disclosed, Effort, Reconciliation

SEED_BYTES = 8
POINT_BYTES = 16
MAX_ROUNDS = 20_000  # a healthy block takes 50 to 2,000; the budget ends most others before


def disclosed_expected(n_bits: int, qber: float, how: Reconciliation) -> Disclosed:
    """About how much is told of ``n_bits`` bits with an error rate of ``qber``, as planned."""
    told = ceil(about_key_expected(cut(n_bits, how.frame_bits), how.variant, qber))
    return Disclosed(about_key=told, about_errors=told)


def reconcile_alice(
    sifted: SiftedKey, channel: ClassicalChannel, plan: BlockPlan, entropy: Entropy
) -> ReconciledKey:
    """Alice's end: she draws the permutations and the point of the hash.

    Raises ReconciliationFailed, ChannelError, PeerAborted.
    """
    drawn = entropy(SEED_BYTES + POINT_BYTES)
    channel.send(MessageKind.PERMUTATION, drawn)
    with closing(end_at(sifted, plan, drawn, 0)) as end:
        if end.open:
            end.speak(channel)
        return end.conversed(sifted, channel)


def reconcile_bob(
    sifted: SiftedKey, channel: ClassicalChannel, plan: BlockPlan, _entropy: Entropy
) -> ReconciledKey:
    """Bob's end. Raises ReconciliationFailed, ChannelError, PeerAborted."""
    drawn = bytes(channel.receive(MessageKind.PERMUTATION))
    if len(drawn) != SEED_BYTES + POINT_BYTES:
        raise ChannelError(f"permutation: {len(drawn)} bytes, expected {SEED_BYTES + POINT_BYTES}")
    with closing(end_at(sifted, plan, drawn, 1)) as end:
        return end.conversed(sifted, channel)


@dataclass(slots=True)
class End:
    """One end: the frames it is the reference of, and those it corrects."""

    reference: Reference
    corrector: Corrector
    budget: Budget
    out: Words
    rounds: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def close(self) -> None:
        """Forget the key."""
        self.reference.wipe()
        self.corrector.wipe()
        wipe(self.corrector.key)

    @property
    def open(self) -> bool:
        return self.reference.slots.open or self.corrector.slots.open

    def conversed(self, sifted: SiftedKey, channel: ClassicalChannel) -> ReconciledKey:
        """Listen and speak by turns as long as a frame is open."""
        while self.open:
            self.listen(channel)
            if self.open:
                self.speak(channel)
        return self.key(sifted)

    def speak(self, channel: ClassicalChannel) -> None:
        at = self.reference.tell(self.out, self.budget)
        at = self.corrector.ask(self.out, at)
        channel.send(MessageKind.PARITIES, self.out[:at].tobytes())
        self.bytes_sent += 8 * at
        self.corrector.count(self.budget)

    def listen(self, channel: ClassicalChannel) -> None:
        self.rounds += 1
        if self.rounds > MAX_ROUNDS:
            raise ReconciliationFailed(f"not corrected after {MAX_ROUNDS} rounds")
        message = _words(channel.receive(MessageKind.PARITIES))
        at = self.corrector.hear(message, 0, self.budget)
        at = self.reference.hear(message, at, self.budget, self.out)
        if at != message.size:
            raise ChannelError(f"parities: {8 * message.size} bytes, expected {8 * at}")
        self.bytes_received += 8 * at

    def key(self, sifted: SiftedKey) -> ReconciledKey:
        reference, corrector = self.reference, self.corrector
        bits = corrector.key.copy()
        if sifted.n_bits % 64 and bits[-1] >> np.uint64(sifted.n_bits % 64):
            raise ReconciliationFailed("parities place an error beyond the last bit")
        effort = Effort(
            rounds=self.rounds,
            frames=corrector.frames.n_frames if sifted.n_bits else 0,
            frames_failed=reference.slots.failed + corrector.slots.failed,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
        )
        n_errors = reference.n_errors + corrector.n_errors
        disclosed = self.budget.disclosed
        return ReconciledKey(sifted.block_id, bits, sifted.n_bits, disclosed, n_errors, effort)


def end_at(sifted: SiftedKey, plan: BlockPlan, drawn: bytes, side: int) -> End:
    """An end before the first message: ``side`` 0 is Alice, 1 Bob, and ``drawn`` what she sent.

    Of swapped roles, Bob corrects the even frames.
    """
    how = plan.reconciliation
    frames = cut(sifted.n_bits, how.frame_bits)
    seed = int.from_bytes(drawn[:SEED_BYTES], "little")
    point = np.frombuffer(drawn, "<u8", offset=SEED_BYTES)
    chosen = range(frames.n_frames if sifted.n_bits else 0)
    at_bob, at_alice = (chosen[::2], chosen[1::2]) if how.roles_swap else (chosen, chosen[:0])
    told, corrected = (at_alice, at_bob) if side else (at_bob, at_alice)
    first = passes(frames, how.variant, plan.qber_expected, seed)
    agreed = Agreed(frames, first, seed, point)
    reference = Reference(sifted.bits, told, agreed)
    corrector = Corrector(sifted.bits.copy(), corrected, agreed)
    out = np.empty(reference.longest + corrector.longest, np.uint64)
    return End(reference, corrector, Budget(plan), out)


def _words(body: bytes | bytearray | memoryview) -> Words:
    if len(body) % 8:
        raise ChannelError(f"parities: {len(body)} bytes, expected a multiple of 8")
    words = np.frombuffer(body, "<u8")
    return words if words.flags.aligned else words.copy()
