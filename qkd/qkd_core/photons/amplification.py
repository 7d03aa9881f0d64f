"""Privacy amplification: hash the corrected key down to its secret length."""

from qkd_core.kernels.toeplitz_product import toeplitz_product
from qkd_core.photons.bodies import bits_from_body, bits_to_body
from qkd_core.photons.entropy import Entropy
from qkd_core.ports import ClassicalChannel
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import PackedBits
from qkd_core.types.blocks import ReconciledKey, SecretKey
from qkd_core.types.plans import BlockPlan

HASH = "toeplitz-systematic-1"  # goes into the digest of what the two sites have agreed on


def amplify_alice(
    key: ReconciledKey, plan: BlockPlan, channel: ClassicalChannel, entropy: Entropy
) -> SecretKey:
    """Draw a Toeplitz seed for this block alone, announce it, and hash. Raises ChannelError.

    The seed is uniform, public, and ``key.n_bits - 1`` bits long; it is drawn after Bob's
    detections are fixed. The block was accepted, so 1 <= n_secret <= n_bits.
    """
    n_seed = key.n_bits - 1
    drawn = bytearray(entropy((n_seed + 7) // 8))
    if n_seed % 8:
        drawn[-1] &= (1 << n_seed % 8) - 1
    seed = bits_from_body(bytes(drawn), n_seed, "seed")
    channel.send(MessageKind.SEED, bits_to_body(seed, n_seed))
    return _hashed(key, seed, plan.n_secret)


def amplify_bob(key: ReconciledKey, plan: BlockPlan, channel: ClassicalChannel) -> SecretKey:
    """Hash with the seed that Alice announces. Raises ChannelError, PeerAborted."""
    n_seed = key.n_bits - 1
    seed = bits_from_body(channel.receive(MessageKind.SEED), n_seed, "seed")
    return _hashed(key, seed, plan.n_secret)


def _hashed(key: ReconciledKey, seed: PackedBits, n_secret: int) -> SecretKey:
    bits = toeplitz_product(seed, key.n_bits, key.bits, n_secret)
    return SecretKey(key.block_id, bits, n_secret)
