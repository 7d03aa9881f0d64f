"""Message bodies made of packed bits: ``ceil(n / 8)`` bytes, bit i in bit i % 8 of byte i // 8."""

import numpy as np

from qkd_core.errors import ChannelError
from qkd_core.types.bits import PackedBits, n_words


def bits_to_body(words: PackedBits, n_bits: int) -> bytes:
    """The first ``n_bits`` bits of ``words``, uint64[n], as a message body."""
    return words.view(np.uint8)[: (n_bits + 7) // 8].tobytes()


def bits_from_body(body: bytes, n_bits: int, what: str) -> PackedBits:
    """Packed bits from a body that has to hold exactly ``n_bits``.

    Raises ChannelError, which names ``what``: another length, or a bit beyond the last one.
    """
    if len(body) != (n_bits + 7) // 8:
        raise ChannelError(f"{what}: {len(body)} bytes, expected {(n_bits + 7) // 8}")
    if n_bits % 8 and body[-1] >> n_bits % 8:
        raise ChannelError(f"{what}: a bit is set beyond the last of {n_bits}")
    words = np.zeros(n_words(n_bits), np.uint64)
    words.view(np.uint8)[: len(body)] = np.frombuffer(body, np.uint8)
    return words
