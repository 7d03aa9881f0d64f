"""The passes of Cascade over one frame: block sizes by variant, and what both ends derive of them.

Sources: Brassard and Salvail, "Secret-key reconciliation by public discussion", EUROCRYPT '93;
block sizes after Martinez-Mateo et al., "Demystifying the information reconciliation protocol
Cascade", QIC 15 (2015).
"""

from dataclasses import dataclass, field
from math import log2, sqrt

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError
from qkd_core.kernels.cascade_corrector import RECIPROCAL
from qkd_core.kernels.cascade_permutation import ROWS, draw_tables
from qkd_core.photons.reconciliation.frames import Frames
from qkd_core.types.bits import n_words

QBER_RANGE = (1e-4, 0.25)  # for block sizes only


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What decides on the blocks of a variant, and how much it tells.

    errors  expected in a block of each of the first passes, to a factor of sqrt(2)
    parts   in how many blocks each further pass is cut, before the `CLOSING` ones
    told, told_growth, told_falling  measured with long frames: n bits take n h(q) times
            told + told_growth sqrt(q) - told_falling * (errors expected in a first block)
    """

    errors: tuple[float, ...]
    parts: tuple[int, ...]
    told: float
    told_growth: float
    told_falling: float


VARIANTS = {  # the number in a name does not count the closing passes
    "fast4": Variant(
        errors=(0.8, 3.2, 25.6), parts=(8,), told=1.073, told_growth=0.21, told_falling=0.07
    ),
    "tight9": Variant(
        errors=(1.1, 6.5),
        parts=(8, 2, 2, 2, 2, 2, 2),
        told=1.0095,
        told_growth=0.151,
        told_falling=0.0,
    ),
}
CLOSING = 4 * (2,)  # a bit each, to halve the frames that fail: one that does is told whole
HASH_BITS = 16  # a wrong frame that they miss costs the block: it is verified as a whole

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Passes:
    """What the kernels need to know of the passes; see `kernels.cascade_corrector.advance`.

    ``top_words``: words for the parities at all blocks' ends of a frame. ``most``: one more than
    the blocks of any pass.
    """

    block_bits: Ints
    reciprocals: Ints
    n_blocks: Ints
    block_at: Ints
    tables: npt.NDArray[np.uint16] = field(repr=False)
    top_words: int
    most: int

    @property
    def number(self) -> int:
        return self.block_bits.size

    def told_at_first(self, n_bits: int) -> int:
        """How many parities of blocks tell something, of a frame with ``n_bits`` bits and zeros.

        In the first pass the blocks of zeros tell nothing. The parities of the other passes add up
        to that of the frame, which the first pass has told.
        """
        return (
            -(-n_bits // int(self.block_bits[0])) + int(self.n_blocks[1:].sum()) - self.number + 1
        )


def block_sizes(variant: str, n_bits: int, qber: float) -> tuple[int, ...]:
    """The block size of each pass, for a frame of ``n_bits`` bits and the planned error rate.

    Raises ConfigError for an unknown variant.
    """
    chosen = _variant(variant)
    qber = min(max(qber, QBER_RANGE[0]), QBER_RANGE[1])
    first, *others = (2 ** round(log2(each / qber)) for each in chosen.errors)
    later = sorted([*others, *(n_bits // part for part in chosen.parts + CLOSING)])
    return (min(first, n_bits), *(size for size in later if size <= n_bits // 2))


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise ConfigError(f"Cascade has no variant {name!r}; it has {', '.join(VARIANTS)}")
    return VARIANTS[name]


def passes(frames: Frames, variant: str, qber: float, seed: int) -> Passes:
    """The passes of every frame of a block, with permutations that ``seed`` determines."""
    n_bits = 64 * frames.words
    block_bits = np.array(block_sizes(variant, n_bits, qber))
    n_blocks = -(-n_bits // block_bits)
    n_tables = block_bits.size - 1
    tables = np.empty(n_tables * ROWS * frames.words, np.uint16)
    draw_tables(np.uint64(seed), frames.words, n_tables, tables)
    return Passes(
        block_bits=block_bits,
        reciprocals=-(-(1 << RECIPROCAL) // block_bits),
        n_blocks=n_blocks,
        block_at=np.concatenate([[0], np.cumsum(n_blocks + 1)]),
        tables=tables,
        top_words=n_words(int(n_blocks.sum())),
        most=int(n_blocks.max()) + 1,
    )


def about_key_expected(frames: Frames, variant: str, qber: float) -> float:
    """Bits that are told of the key when as many errors occur as expected, and no frame fails.

    Within 2 % for frames of 4096 bits or more and ``qber`` of 0.5 to 11 %. Raises ConfigError for
    an unknown variant.
    """
    if not 0 < qber < 1:
        return float(HASH_BITS * frames.n_frames)
    chosen = _variant(variant)
    in_first = qber * block_sizes(variant, 64 * frames.words, qber)[0]
    times = chosen.told + chosen.told_growth * sqrt(qber) - chosen.told_falling * in_first
    entropy = -qber * log2(qber) - (1 - qber) * log2(1 - qber)
    closing = sum(part - 1 for part in chosen.parts + CLOSING)
    return times * entropy * frames.n_bits + (HASH_BITS + closing) * frames.n_frames
