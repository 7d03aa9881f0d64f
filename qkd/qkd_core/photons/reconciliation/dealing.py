"""Words of a block dealt out, so that each frame has some of every part of it.

Frames hold consecutive bits, and a code or a pass is chosen for the error rate of the whole block.
Where that changes along a block (a satellite's pass, a drifting polarisation) frames of one part
would have more errors than they can correct. So word i of what is corrected is word i g mod m of
the block, with g near m over the golden ratio: any run of words is then spread over the block as
evenly as can be, if g / m has no large partial quotient. The order follows from the length, and
both ends have the same.
Source: Kuipers and Niederreiter, Uniform Distribution of Sequences, 1974, chapter 2, theorem 3.4.
"""

from functools import lru_cache
from math import inf

import numpy as np
import numpy.typing as npt

from qkd_core.types.bits import PackedBits

GOLDEN = 0.6180339887498949
QUOTIENT_MAX = 6  # 5 leaves a g to every length by Zaremba's conjecture; tried to 20,000 words
LENGTHS_KEPT = 64


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
        order[:whole] = order[:whole] * _step(whole) % whole
    return order


@lru_cache(LENGTHS_KEPT)
def _step(whole: int) -> int:
    """The g nearest to m over the golden ratio; 1, which leaves the order, if there is none."""
    near = round(GOLDEN * whole)
    nearest = (g for off in range(whole) for g in (near + off, near - off) if 0 < g < whole)
    return next((g for g in nearest if _largest_quotient(whole, g) <= QUOTIENT_MAX), 1)


def _largest_quotient(whole: int, g: int) -> float:
    """Of the continued fraction of ``g`` / ``whole``; infinite where these have a common factor."""
    largest = 0
    while g:
        largest = max(largest, whole // g)
        whole, g = g, whole % g
    return largest if whole == 1 else inf
