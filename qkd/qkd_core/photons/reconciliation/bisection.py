"""The public half of Cascade: what both ends compute alike from the parities they exchange.

Alice and Bob run the same deterministic machine on public data: passes, permutations, blocks,
intervals. They differ only in `Disclose`, where one round's parities are exchanged. Each end
holds prefix parities of its own sifted bits; these never change. Flips are public and are kept
apart (``flipped``), so that a difference that was disclosed once holds for ever and is never
asked for again.

Source: Brassard and Salvail, "Secret-key reconciliation by public discussion", EUROCRYPT '93;
pass layout after Martinez-Mateo et al., "Demystifying the information reconciliation protocol
Cascade", QIC 15 (2015), with all odd blocks of a pass bisected in step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log2

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ReconciliationFailed
from qkd_core.kernels.cascade import (
    flip,
    gathered,
    interval_parities,
    inverted,
    narrow,
    odd_blocks,
    prefix_parities,
    record,
    shuffled,
    start_at_blocks,
    toggle_bits,
)
from qkd_core.types.bits import PackedBits, n_words

Disclose = Callable[[PackedBits, int], PackedBits]
"""Exchange one round: own parities (packed) and their count in, both sides' differences out."""

Indices = npt.NDArray[np.uint32]
Positions = npt.NDArray[np.int64]

SEED_STEP = 0xD1342543DE82EF95  # odd: the seeds of the passes are all different
FIRST_BLOCK_ERRORS = 0.95  # expected errors in a block of the first pass, to a factor of sqrt(2)
QBER_RANGE = (1e-4, 0.25)  # for block sizes only
LAST_PASSES = 4


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass: a permutation, its blocks, and all that is public about their parities.

    source, place  uint32[n]: the sifted bit at each position, the position of each sifted bit
    own            packed prefix parities of this end's sifted bits, in the order of the pass
    known, difference, flipped  packed, per boundary: see `narrow`
    total          difference of the parities of the whole sifted keys
    odd            uint8[blocks]: 1 where a block holds an odd number of errors
    """

    block_bits: int
    total: int
    source: Indices
    place: Indices
    own: PackedBits = field(repr=False)
    known: PackedBits
    difference: PackedBits
    flipped: PackedBits
    odd: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Search:
    """What a search for errors starts from.

    bits   packed, this end's sifted bits
    flips  packed, 1 where a bit is to be flipped; changed as errors are found
    """

    n_bits: int
    bits: PackedBits = field(repr=False)
    flips: PackedBits
    disclose: Disclose


def pass_block_bits(n_bits: int, qber: float) -> tuple[int, ...]:
    """The block size of each pass, from the sifted length and the planned error rate."""
    if not n_bits:
        return ()
    first = 2 ** round(log2(FIRST_BLOCK_ERRORS / min(max(qber, QBER_RANGE[0]), QBER_RANGE[1])))
    sizes = (first, 4 * first, 32 * first, n_bits // 8, *LAST_PASSES * (n_bits // 2,))
    return tuple(sorted(min(max(size, 1), n_bits) for size in sizes))


def correct(
    bits: PackedBits, n_bits: int, block_bits: tuple[int, ...], seed: int, disclose: Disclose
) -> PackedBits:
    """Find the positions where the two ends differ; packed, 1 where a bit is to be flipped.

    ``bits`` are this end's sifted bits. From true parities each bisection finds a true error, so
    no position comes twice and the search ends. Raises ReconciliationFailed if one does, and what
    `disclose` raises.
    """
    search = Search(n_bits, bits, np.zeros(n_words(n_bits), np.uint64), disclose)
    passes: list[Pass] = []
    for number, size in enumerate(block_bits):
        order = shuffled(np.uint64((seed + number * SEED_STEP) % 2**64), n_bits)
        passes.append(_opened(search, order, size, passes[0].total if passes else None))
        while swept := next((each for each in passes if each.odd.any()), None):
            errors = swept.source[_bisected(swept, disclose)]
            if gathered(search.flips, errors).any():  # else false answers could lead in circles
                raise ReconciliationFailed("parities contradict each other: a bit errs twice")
            toggle_bits(search.flips, errors)
            for each in passes:
                flip(each.place[errors], n_bits, each.block_bits, each.flipped, each.odd)
    return search.flips


def _opened(search: Search, order: Indices, block_bits: int, total: int | None) -> Pass:
    """Start a pass: disclose the parities of its blocks.

    ``total`` is the difference of the whole keys' parities, known after the first pass; the
    last block's follows from it then, and is not disclosed.
    """
    n_bits = search.n_bits
    own = prefix_parities(gathered(search.bits, order))
    flipped = prefix_parities(gathered(search.flips, order))
    start_at_blocks(flipped, n_bits, block_bits)
    starts = np.arange(0, n_bits, block_bits)
    stops = np.minimum(starts + block_bits, n_bits)
    asked = starts.size if total is None else starts.size - 1
    answers = np.zeros(n_words(starts.size), np.uint64)
    if asked:
        parities = interval_parities(own, starts[:asked], stops[:asked])
        answers[: n_words(asked)] = search.disclose(parities, asked)
    if total is not None:
        answers[asked >> 6] |= np.uint64((_parity(answers) ^ total) << (asked & 63))
    known, difference = np.zeros_like(own), np.zeros_like(own)
    record(starts, stops, answers, block_bits, known, difference)
    return Pass(
        block_bits=block_bits,
        total=_parity(answers),
        source=order,
        place=inverted(order),
        own=own,
        known=known,
        difference=difference,
        flipped=flipped,
        odd=odd_blocks(n_bits, block_bits, difference, flipped),
    )


def _bisected(swept: Pass, disclose: Disclose) -> Positions:
    """The position of one error in each odd block of the pass, by bisecting all in step."""
    n_bits, size = swept.source.size, swept.block_bits
    starts = np.flatnonzero(swept.odd) * size
    stops = np.minimum(starts + size, n_bits)
    while True:
        narrow(starts, stops, size, swept.known, swept.difference, swept.flipped)
        wide = np.flatnonzero(stops - starts > 1)
        if not wide.size:
            return starts
        left, middle = starts[wide], (starts[wide] + stops[wide]) >> 1
        answers = disclose(interval_parities(swept.own, left, middle), wide.size)
        record(left, middle, answers, size, swept.known, swept.difference)


def _parity(words: PackedBits) -> int:
    return int(np.bitwise_count(words).sum()) & 1
