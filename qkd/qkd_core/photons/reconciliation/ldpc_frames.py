"""Which code serves which part of a block: equal at both ends, from the plan alone.

A block is cut into frames as long as the code of its error rate, with 1024 lanes or as
``frame_bits`` allows. What is left is cut by codes of half the length, and so on down to 64 lanes;
the last frame is filled up with zeros that both ends know, or announced whole if that tells less.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, inf, log

import numpy as np

from qkd_core.errors import ConfigError
from qkd_core.photons.reconciliation.ldpc_ladder import (
    CODES_IN_MEMORY,
    LANES,
    Code,
    Ints,
    code,
    mothers,
)
from qkd_core.proofs.entropy import binary_entropy
from qkd_core.types.bits import n_words
from qkd_core.types.reconciliation import Reconciliation

HASH_BITS = 64
LEAST_QBER, MOST_QBER = 0.004, 0.2  # a plan's error rate is taken as within
# of a code with so many lanes: checks over n h(q) for which at most a few frames in 400 fail
QBERS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.10, 0.11)
AT_1024 = (1.131, 1.116, 1.098, 1.088, 1.088, 1.085, 1.080, 1.081, 1.078, 1.070, 1.067, 1.067)
AT_128 = (1.22, 1.19, 1.146, 1.125, 1.12, 1.115, 1.105, 1.106, 1.10, 1.10, 1.085, 1.085)
# the ratio of checks to bits that suits a mother, to the one it has at full length
STRETCH = {394: 1.12, 440: 1.12, 500: 1.06}
USUAL_STRETCH = 1.17
LEAST_DEGREE = 3  # of a column with unsent bits
REVEALED_STEP = 0.01  # of the checks, revealed a round


@dataclass(frozen=True, slots=True)
class Variant:
    """How much is told at once, and how often more.

    unsent  how far the first try is below the table, as a part of h(q)
    spare   how far the code is above it: the difference is filled with random bits
    rounds  how often more bits are revealed before a frame is told whole
    """

    unsent: float
    spare: float
    rounds: int


VARIANTS = {"single": Variant(0.0, 0.0, 0), "blind": Variant(0.03, 0.03, 12)}


@dataclass(frozen=True, slots=True, eq=False)
class Scheme:
    """A code and where in it a frame's words stand. Places are words counted through the columns.

    key       of the frame's words, in order
    fill      of random bits that are not sent; they are revealed first, in this order
    reveal    of what is revealed round by round: first the fill, then words of the key
    step      words that a round reveals
    """

    code: Code
    rounds: int
    step: int
    key: Ints = field(repr=False)
    fill: Ints = field(repr=False)
    reveal: Ints = field(repr=False)

    @property
    def n_bits(self) -> int:
        """Bits of key that a frame has room for."""
        return 64 * self.key.size

    @property
    def told(self) -> int:
        """Bits that the first message tells of the key: the fill hides as many checks."""
        return self.code.n_checks - 64 * self.fill.size + HASH_BITS


@dataclass(frozen=True, slots=True)
class Frame:
    """A part of the block that starts with the word ``start``; without ``scheme`` told whole."""

    start: int
    n_bits: int
    scheme: Scheme | None

    @property
    def words(self) -> slice:
        """Of the block."""
        return slice(self.start, self.start + n_words(self.n_bits))

    @property
    def told_words(self) -> int:
        """Words of the first message: the syndrome and the hash, or the key."""
        if self.scheme is None:
            return n_words(self.n_bits)
        return self.scheme.code.n_checks // 64 + HASH_BITS // 64

    @property
    def told(self) -> int:
        """Bits of the key that the first message tells."""
        return self.n_bits if self.scheme is None else min(self.n_bits, self.scheme.told)


def inefficiency(qber: float, lanes: int) -> float:
    """Checks over n h(q) with which few frames fail.

    The excess over what an endless code would need falls with the root of the length.
    """
    at = np.log(QBERS)
    long, short = (float(np.interp(log(qber), at, each)) for each in (AT_1024, AT_128))
    share: float = (lanes**-0.5 - 1024**-0.5) / (128**-0.5 - 1024**-0.5)
    return long + (short - long) * share


def variant_of(how: Reconciliation) -> Variant:
    """Raises ConfigError for a variant that is not there."""
    if how.variant not in VARIANTS:
        raise ConfigError(f"LDPC variant {how.variant!r}; there are {', '.join(VARIANTS)}")
    return VARIANTS[how.variant]


def planned(qber: float) -> float:
    """The error rate for which codes are chosen."""
    return min(max(qber, LEAST_QBER), MOST_QBER)


def cut(n_bits: int, qber: float, how: Reconciliation) -> tuple[Frame, ...]:
    """The frames of a block of ``n_bits`` with ``qber`` planned. Raises ConfigError."""
    variant_of(how)
    frames, start = [], 0
    whole_words = max(64, how.frame_bits - how.frame_bits % 64)
    while 64 * start < n_bits:
        most = min(n_bits - 64 * start, whole_words)
        schemes = (scheme(planned(qber), lanes, how.variant) for lanes in LANES)
        fitting = next((each for each in schemes if each.n_bits <= most), None)
        if fitting is None:
            fitting = shortened(planned(qber), most, how.variant)
            length = most
        else:
            length = fitting.n_bits
        frame = Frame(start, length, fitting)
        frames.append(frame if frame.told < length else Frame(start, length, None))
        start += (length + 63) // 64
    return tuple(frames)


@lru_cache(CODES_IN_MEMORY)
def scheme(qber: float, lanes: int, variant: str) -> Scheme:
    """A code of its natural length for an error rate, and how it is used."""
    how = VARIANTS[variant]
    entropy = binary_entropy(qber)
    aim = inefficiency(qber, lanes)
    ratio = (aim + how.spare) * entropy
    mother = _suiting(ratio)
    columns = min(1024, max(513, round(mother / ratio)))
    first = (aim - how.unsent) * entropy
    return _placed(code(mother, columns, lanes), first, how)


@lru_cache(CODES_IN_MEMORY)
def shortened(qber: float, n_bits: int, variant: str) -> Scheme:
    """The code with the fewest checks that serves a frame too short for every natural length."""
    how = VARIANTS[variant]
    best, fewest = None, inf
    for lanes in LANES:
        columns = -(-n_bits // lanes)
        needed = inefficiency(qber, lanes) * binary_entropy(qber) * n_bits / lanes
        mother = next((each for each in mothers() if each.rows >= needed), None)
        if mother is not None and columns <= mother.columns and mother.rows * lanes < fewest:
            best, fewest = (mother.rows, columns, lanes), mother.rows * lanes
    if best is None:
        best = (mothers()[-1].rows, -(-n_bits // LANES[-1]), LANES[-1])
    return _placed(code(*best), inf, how)


def _suiting(ratio: float) -> int:
    """The rows of the mother that suits a ratio of checks to bits best."""
    able = [each for each in mothers() if each.rows / each.columns <= ratio * 1.0005]

    def distance(rows: int, columns: int) -> float:
        return abs(log(ratio / (rows / columns * STRETCH.get(rows, USUAL_STRETCH))))

    return min(able or mothers()[:1], key=lambda each: distance(each.rows, each.columns)).rows


def _placed(chosen: Code, first: float, how: Variant) -> Scheme:
    """Put the key's words and the fill into a code.

    ``first``: the bits that the first try tells, to one of the key.
    """
    n, m = chosen.n_bits, chosen.n_checks
    unsent = 0 if first == inf else max(0, int((m - first * n) / (1 - first) / 64))
    order = _scattered(n // 64)
    heavy = chosen.degree[order // (chosen.lanes // 64)] >= LEAST_DEGREE
    fill = order[heavy][:unsent]
    key = np.setdiff1d(np.arange(n // 64), fill)
    reveal = np.concatenate([fill, order[~np.isin(order, fill)]])
    step = ceil(REVEALED_STEP * m / 64)
    for array in (key, fill, reveal):
        array.flags.writeable = False
    return Scheme(chosen, how.rounds, step, key, fill, reveal)


def _scattered(n: int) -> Ints:
    """The numbers 0 .. n - 1 in an order that looks random; the same at both ends, for ever.

    They are sorted by the output function of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
    """
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return np.argsort(z ^ (z >> np.uint64(31)), kind="stable")
