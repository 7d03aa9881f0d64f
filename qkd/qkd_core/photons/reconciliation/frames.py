"""A block cut into frames of one length, which are corrected beside each other.

The frames hold consecutive words of the block, as equally many as possible, and then zeros that
both ends know: up to a whole number of 4096 bits, which is what the permutations work on.
"""

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

    def load(self, bits: PackedBits, frame: int, out: PackedBits) -> None:
        """Copy the frame from ``bits``, those of the block, to uint64[words] with its zeros."""
        start, stop = self.start(frame), self.start(frame + 1)
        out[: stop - start] = bits[start:stop]
        out[stop - start :] = 0

    def store(self, frame: int, words: PackedBits, bits: PackedBits) -> None:
        """Put a frame, with or without its zeros, back to its place in ``bits``."""
        start, stop = self.start(frame), self.start(frame + 1)
        bits[start:stop] = words[: stop - start]


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
