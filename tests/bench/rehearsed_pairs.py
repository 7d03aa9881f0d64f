"""A link of entangled pairs whose blocks were drawn before: the clock sees the engine alone."""

from dataclasses import replace

import numpy as np

from qkd_core.ports import ClassicalChannel
from qkd_core.ports.link import Outcomes
from qkd_core.types.bits import n_words
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import PairSettings

DRAWN = 4  # blocks, which come round again


class RehearsedPairs:
    """One end's device. Both ends draw what the source does from one seed, each keeps its own."""

    provenance = Provenance.SIMULATED

    def __init__(self, counts: tuple[int, int], qber: float, side: Side, seed: int = 7) -> None:
        """``counts``: bits of the key and of the test of each block."""
        self._drawn = [
            Outcomes(
                *counts,
                *(
                    _bits(np.random.default_rng([seed, number, basis]), n, qber, side)
                    for basis, n in enumerate(counts)
                ),
            )
            for number in range(DRAWN)
        ]

    def arm(self, block_id: BlockId, settings: PairSettings) -> None:
        pass

    def outcomes(self, block_id: BlockId, _channel: ClassicalChannel) -> Outcomes:
        drawn = self._drawn[block_id % DRAWN]
        return replace(drawn, key=drawn.key.copy(), test=drawn.test.copy())


def _bits(rng: np.random.Generator, n: int, qber: float, side: Side) -> np.ndarray:
    """uint64[ceil(n / 64)]: Alice's bits, or Bob's, which differ with the probability ``qber``."""
    words = rng.integers(0, 2**64, n_words(n), dtype=np.uint64)
    if side is Side.B:
        piece = 1 << 22
        for start in range(0, 64 * words.size, piece):
            count = min(piece, 64 * words.size - start)
            wrong = np.packbits(rng.random(count) < qber, bitorder="little")
            words[start >> 6 : (start + count) >> 6] ^= wrong.view(np.uint64)
    if n % 64:
        words[-1] &= np.uint64((1 << n % 64) - 1)
    return words
