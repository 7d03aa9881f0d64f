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
from qkd_core.kernels.cascade_flips import RECIPROCAL
from qkd_core.kernels.cascade_permutation import ROWS, draw_tables
from qkd_core.photons.reconciliation.frames import Frames
from qkd_core.types.bits import n_words

QBER_RANGE = (1e-4, 0.25)  # for block sizes only


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What decides on the blocks of a variant, and how much it tells.

    errors  expected in a block of each of the first passes, to a factor of sqrt(2), at an error
            rate of nearly 0 and at one of `RISEN` or more; in proportion between
    parts   in how many blocks each further pass is cut
    told, told_growth, told_first  fitted from above to what was measured: n bits take n h(q) times
            told + told_growth sqrt(q) + told_first * (errors expected in a first block)
    """

    errors: tuple[tuple[float, float], ...]
    parts: tuple[int, ...]
    told: float
    told_growth: float
    told_first: float


RISEN = 0.05
# The number in a name is that of the passes.
#
# The smaller its second blocks, the faster is fast4, but the more it tells, and the more so the
# higher the error rate. So the errors in them are as few as f <= 1.06 allows from 1 to 5 %, and
# stay so above, where f is not worth the rounds.
#
# Of tight4 many frames have errors left, two or more a block, when its large blocks come; one of
# these that is odd sets off the search for all of them. Each parity of the 14 halves the chance
# that none is, and such a frame is not repaired but told whole: seen of 3 frames in 15,000 with 10
# parities, and of none in 32,000 with 14. As many in more passes, of two blocks, take up to a
# quarter more time and tell as much.
VARIANTS = {
    "fast4": Variant(
        errors=((0.8, 0.8), (3.04, 4.42), (25.6, 25.6)),
        parts=(8,),
        told=1.0578,
        told_growth=0.1608,
        told_first=-0.0363,
    ),
    "tight4": Variant(
        errors=((1.1, 1.1), (6.5, 6.5)),
        parts=(8, 8),
        told=1.0159,
        told_growth=0.1254,
        told_first=0.0059,
    ),
}
REPAIRS = 10  # passes over frames that are wrong after those, two blocks each; then told whole
HASH_BITS = 16  # a wrong frame that they miss costs the block: it is verified as a whole

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Passes:
    """What the kernels need to know of the passes; see `kernels.cascade_corrector.advance`.

    ``top_words``: words for the parities at all blocks' ends of a frame. ``most``: one more than
    the blocks of any pass. ``told_later``: parities that tell something of all passes but the
    first; those of one pass add up to that of the frame, which the first has told.
    """

    block_bits: Ints
    reciprocals: Ints
    n_blocks: Ints
    block_at: Ints
    tables: npt.NDArray[np.uint16] = field(repr=False)
    top_words: int
    most: int
    told_later: int

    @property
    def number(self) -> int:
        return self.block_bits.size

    def told_at_first(self, n_bits: int) -> int:
        """How many parities of blocks tell something, of a frame with ``n_bits`` bits and zeros.

        In the first pass the blocks of zeros tell nothing.
        """
        return -(-n_bits // int(self.block_bits[0])) + self.told_later


def block_sizes(variant: str, n_bits: int, qber: float) -> tuple[int, ...]:
    """The block size of each pass, for a frame of ``n_bits`` bits and the planned error rate.

    Raises ConfigError for an unknown variant.
    """
    chosen = _variant(variant)
    qber = min(max(qber, QBER_RANGE[0]), QBER_RANGE[1])
    risen = min(1.0, qber / RISEN)
    expected = (low + (high - low) * risen for low, high in chosen.errors)
    first, *others = (2 ** round(log2(each / qber)) for each in expected)
    later = sorted([*others, *(n_bits // part for part in chosen.parts)])
    return (min(first, n_bits), *(size for size in later if size <= n_bits // 2))


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise ConfigError(f"Cascade has no variant {name!r}; it has {', '.join(VARIANTS)}")
    return VARIANTS[name]


def passes(frames: Frames, variant: str, qber: float, seed: int) -> Passes:
    """The passes of every frame of a block, with permutations that ``seed`` determines."""
    return _with_permutations(frames, block_sizes(variant, 64 * frames.words, qber), seed)


def repairs(frames: Frames, seed: int) -> Passes:
    """More passes with other permutations, for the frames that are wrong after the first ones.

    Two errors are left, nearly always. One block of all bits comes first, since the first pass
    permutes nothing.
    """
    n_bits = 64 * frames.words
    return _with_permutations(frames, (n_bits, *REPAIRS * (n_bits // 2,)), seed ^ 1)


def _with_permutations(frames: Frames, sizes: tuple[int, ...], seed: int) -> Passes:
    n_bits = 64 * frames.words
    block_bits = np.array(sizes)
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
        told_later=int((n_blocks[1:] - 1).sum()),
    )


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both ends derive from the plan and from what Alice drew.

    ``point``: uint64[2], of the frames' hash.
    """

    frames: Frames
    passes: Passes
    seed: int
    point: npt.NDArray[np.uint64] = field(repr=False)

    def repairs(self) -> Passes:
        return repairs(self.frames, self.seed)


def about_key_expected(frames: Frames, variant: str, qber: float) -> float:
    """Bits that are told of the key when as many errors occur as expected, and no frame fails.

    Within 2 % for frames of 4096 bits or more and ``qber`` of 0.5 to 11 %; with 16384 bits or more
    not less than is told, which would cost each long block. Raises ConfigError for an unknown
    variant.
    """
    if not 0 < qber < 1:
        return float(HASH_BITS * frames.n_frames)
    chosen = _variant(variant)
    in_first = qber * block_sizes(variant, 64 * frames.words, qber)[0]
    times = chosen.told + chosen.told_growth * sqrt(qber) + chosen.told_first * in_first
    entropy = -qber * log2(qber) - (1 - qber) * log2(1 - qber)
    closing = sum(part - 1 for part in chosen.parts)
    return times * entropy * frames.n_bits + (HASH_BITS + closing) * frames.n_frames
