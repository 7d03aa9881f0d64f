"""Words of a block dealt out, so that each frame has some of every part of it.

Frames hold consecutive bits, and a code or a pass is chosen for the error rate of the whole block.
Where that changes along a block (a satellite's pass, a drifting polarisation) frames of one part
would have more errors than they can correct. So word i of what is corrected is word i g mod m of
the block, with g near m over the golden ratio: any run of words is then spread over the block as
evenly as can be. The order follows from the length, and both ends have the same.
Source: Knuth, The Art of Computer Programming 3, section 6.4, theorem S (three distances).
"""

from math import gcd

import numpy as np
import numpy.typing as npt

from qkd_core.types.bits import PackedBits

GOLDEN = 0.6180339887498949


def dealt(bits: PackedBits, n_bits: int) -> PackedBits:
    """``bits``, uint64[..] of ``n_bits``, in the order in which they are corrected; a copy."""
    return bits[_order(bits.size, n_bits)]


def put_back(bits: PackedBits, n_bits: int) -> PackedBits:
    """The inverse of `dealt`, a copy."""
    out = np.empty_like(bits)
    out[_order(bits.size, n_bits)] = bits
    return out


def _order(n_words: int, n_bits: int) -> npt.NDArray[np.int64]:
    """int64[n_words]; a last word that is not full stays the last."""
    order = np.arange(n_words)
    whole = n_bits // 64
    if whole > 1:
        step = max(1, round(GOLDEN * whole))
        while gcd(step, whole) > 1:
            step += 1
        order[:whole] = order[:whole] * step % whole
    return order
