"""Are the corrected keys equal? One hash, drawn after reconciliation.

Alice sends two fresh elements r, a of GF(2^128) and the first t bits of a * P_r(key), where P_r
is the polynomial hash. Keys that differ are found out unless P_r collides (L / 2^128, with L
blocks of 128 bits and the length) or the product of a nonzero difference with a starts with t
zeros (2^-t). t is the least number for which the sum is at most ``eps_cor``; it is
ceil(log2(1 / eps_cor)) but for rounding, and the term log2(2 / eps_cor) of the key length pays
for it (Lim et al. 2014, Eq. (1)).
"""

from hmac import compare_digest

import numpy as np

from qkd_core.errors import ChannelError, VerificationFailed
from qkd_core.kernels.gf128 import multiply
from qkd_core.kernels.gf128_hash import polynomial_hash
from qkd_core.photons.entropy import Entropy
from qkd_core.ports import ClassicalChannel
from qkd_core.proofs.correctness import verification_bits
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import ReconciledKey
from qkd_core.types.plans import BlockPlan

ELEMENT_BYTES = 16


def verify_alice(
    key: ReconciledKey, channel: ClassicalChannel, plan: BlockPlan, entropy: Entropy
) -> None:
    """Send the hash of Alice's key; Bob aborts when his differs. Raises ChannelError."""
    elements = entropy(2 * ELEMENT_BYTES)
    channel.send(MessageKind.VERIFICATION, elements + _tag(key, elements, plan))


def verify_bob(key: ReconciledKey, channel: ClassicalChannel, plan: BlockPlan) -> None:
    """Compare the hash of Bob's key with Alice's.

    Raises VerificationFailed, ChannelError, PeerAborted.
    """
    body = channel.receive(MessageKind.VERIFICATION)
    elements, theirs = body[: 2 * ELEMENT_BYTES], body[2 * ELEMENT_BYTES :]
    if len(elements) != 2 * ELEMENT_BYTES:
        raise ChannelError(f"verification: {len(body)} bytes hold no hash key")
    ours = _tag(key, elements, plan)
    if len(theirs) != len(ours):
        raise ChannelError(f"verification: {len(theirs)} bytes of hash, expected {len(ours)}")
    if not compare_digest(ours, theirs):
        raise VerificationFailed(f"the keys of {key.n_bits} bits differ after reconciliation")


def polynomial_hash_bytes(hash_key: bytes, message: bytes) -> bytes:
    """The polynomial hash of ``message``, 16 bytes, at the point ``hash_key``, 16 bytes.

    The message is padded with zeros to blocks of 16 bytes and closed by a block with its length
    in bits. Two messages of at most L blocks each have hashes with a given difference under at
    most (L + 1) / 2^128 of the keys.
    """
    blocks = np.frombuffer(message, np.uint8)
    hashed = polynomial_hash(np.frombuffer(hash_key, "<u8"), blocks, 8 * len(message))
    return hashed.tobytes()


def _tag(key: ReconciledKey, elements: bytes, plan: BlockPlan) -> bytes:
    r, a = (np.frombuffer(elements, "<u8")[i : i + 2] for i in (0, 2))
    hashed = polynomial_hash(r, key.bits.view(np.uint8), key.n_bits)
    product = multiply(hashed, a).tobytes()
    n_bits = verification_bits(plan.policy.eps_cor, plan.n_key_max)
    tag = int.from_bytes(product, "little") & ((1 << n_bits) - 1)
    return tag.to_bytes((n_bits + 7) // 8, "little")
