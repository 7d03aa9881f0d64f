"""Sifted bits of entangled pairs: both ends announce those of the test basis, and count.

The bits of the key basis stay where they are. Both ends have fixed their bits before either says
any: times and bases have been exchanged, see `photons.coincidences`.
"""

import numpy as np

from qkd_core.errors import LinkError
from qkd_core.photons.bodies import bits_from_body, bits_to_body
from qkd_core.ports import ClassicalChannel
from qkd_core.ports.link import Outcomes
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import PackedBits, n_words, wipe
from qkd_core.types.blocks import PairTallies, SiftedKey
from qkd_core.types.ids import BlockId, Side


def sift_pairs(
    outcomes: Outcomes, channel: ClassicalChannel, block_id: BlockId, side: Side
) -> SiftedKey:
    """Compare the test bits; the key bits are wiped when that fails.

    Raises LinkError for bits that do not fit their numbers, ChannelError.
    """
    for name, bits, n in (
        ("key", outcomes.key, outcomes.n_key),
        ("test", outcomes.test, outcomes.n_test),
    ):
        if bits.shape != (n_words(n),) or (n % 64 and bits[-1] >> np.uint64(n % 64)):
            raise LinkError(f"the device gave {bits.shape} words of {name} bits for {n} bits")
    try:
        theirs = _exchanged(outcomes, channel, side)
    except BaseException:
        wipe(outcomes.key)
        raise
    tallies = PairTallies(
        n_key=outcomes.n_key,
        n_test=outcomes.n_test,
        test_errors=int(np.bitwise_count(outcomes.test ^ theirs).sum()),
    )
    return SiftedKey(block_id, outcomes.key, outcomes.n_key, tallies)


def _exchanged(outcomes: Outcomes, channel: ClassicalChannel, side: Side) -> PackedBits:
    """The other end's test bits, for ours."""
    mine = bits_to_body(outcomes.test, outcomes.n_test)
    if side is Side.A:  # one speaks first, so that both do not wait to be heard
        channel.send(MessageKind.TEST_BITS, mine)
        body = channel.receive(MessageKind.TEST_BITS)
    else:
        body = channel.receive(MessageKind.TEST_BITS)
        channel.send(MessageKind.TEST_BITS, mine)
    return bits_from_body(body, outcomes.n_test, "test bits")
