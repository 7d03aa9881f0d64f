"""A block cut into frames of one length, which are corrected beside each other.

The frames hold consecutive words of the block, as equally many as possible, and then zeros that
both ends know: up to a whole number of 4096 bits, which is what the permutations work on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qkd_core.kernels.gf128_hash import polynomial_hash
from qkd_core.types.bits import PackedBits, n_words

FRAME_STEP = 64  # words
LEAST_BITS, MOST_BITS = 64 * FRAME_STEP, 1 << 20  # of a frame


@dataclass(frozen=True, slots=True)
class Frames:
    """``n_bits`` bits in ``n_frames`` frames of ``words`` words each, zeros included."""

    n_bits: int
    n_frames: int
    words: int

    def start(self, frame: int) -> int:
        """The word of the block with which the frame begins; with ``n_frames``, the end."""
        return frame * n_words(self.n_bits) // self.n_frames

    def n_bits_of(self, frame: int) -> int:
        """Bits of the block that are in the frame."""
        return min(self.n_bits, 64 * self.start(frame + 1)) - 64 * self.start(frame)

    def spread(self, bits: PackedBits, chosen: Sequence[int]) -> PackedBits:
        """The ``chosen`` frames one after another, uint64[len(chosen) * words]."""
        out = np.zeros((len(chosen), self.words), np.uint64)
        for to, frame in zip(out, chosen, strict=True):
            words = bits[self.start(frame) : self.start(frame + 1)]
            to[: words.size] = words
        return out.reshape(-1)

    def collect(self, spread: PackedBits, chosen: Sequence[int], bits: PackedBits) -> None:
        """Put the ``chosen`` frames, as `spread` gave them, back to their places in ``bits``."""
        for of, frame in zip(spread.reshape(-1, self.words), chosen, strict=True):
            start, stop = self.start(frame), self.start(frame + 1)
            bits[start:stop] = of[: stop - start]


def cut(n_bits: int, frame_bits: int) -> Frames:
    """The fewest frames of at most ``frame_bits`` bits, taken as 4096 at least and 2^20 at most.

    There is one frame even of no bits.
    """
    most = min(max(frame_bits, LEAST_BITS), MOST_BITS) // 64
    words = n_words(n_bits)
    n_frames = max(1, -(-words // most))
    longest = -(-words // n_frames)
    return Frames(n_bits, n_frames, FRAME_STEP * max(1, -(-longest // FRAME_STEP)))


def frame_hash(point: PackedBits, bits: PackedBits, n_bits: int) -> int:
    """64 bits of the polynomial hash of a frame; two frames collide with n_bits / 128 / 2^64.

    ``point``: uint64[2], where the polynomial is taken.
    """
    return int(polynomial_hash(point, bits.view(np.uint8), n_bits)[0])
