"""The heralds of a chain of repeaters and the pairs that it gives its ends, round by round.

A link that tries with probability p of success is heralded after a geometric number of attempts,
which is drawn at once: the cost grows with heralds, not with attempts. All slots are chains of
their own, and start with empty memories when a block begins. Pauli errors are drawn where they
arise and multiplied, which is exact for Bell-diagonal pairs in the two bases of the ends.
Source: the geometric law has no memory; the rest as `physics.chain`, which it is tested against.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit, types

from qkd_sim_link.physics.chain import Chain
from qkd_sim_link.physics.heralding import flight_s
from qkd_sim_link.physics.swapping import BellDiagonal
from qkd_sim_link.sampling.generator import (
    EVENTS,
    F64_IN,
    GOLDEN,
    I64,
    I64_IN,
    U64,
    block_keys,
    exponential,
    mix64,
    unit,
)
from qkd_sim_link.scenarios.repeaters import RepeaterScenario

PS_PER_S = 1e12
FAILED = 2  # the outcome of a swap that made no pattern; else 0 or 1, which of the two states
PHASE = 2  # the part of a Pauli error, or of a frame, that shows in the test basis
# What `play_rounds` counts: heralds of links, swaps that were tried, those that succeeded, rounds
# that the cut-off dropped.
N_COUNTS = 4
_LINKS, _TRIED, _SWAPPED, _DROPPED = range(N_COUNTS)

I64_OUT = types.int64[::1]
U8_OUT = types.uint8[::1]
I64_TABLE = types.int64[:, ::1]
_ONE = np.uint64(1)


@njit(U64(U64, I64), cache=True, nogil=True)
def word_after(counter, place):
    """The word at ``place`` of those that belong to a round."""
    return mix64(counter + np.uint64(place) * GOLDEN)


@njit(I64(U64, F64_IN), cache=True, nogil=True)
def drawn_error(word, below):
    """A Pauli error, x | z << 1; below[e] is the probability of an error up to e, float64[3]."""
    u = unit(word)
    if u < below[0]:
        return 0
    if u < below[1]:
        return 1
    return 2 if u < below[2] else 3


@njit(I64(U64, I64, F64_IN, F64_IN), cache=True, nogil=True)
def joined_state(counter, n_links, link_below, swap_below):
    """frame | error << 2 of a pair over all links: the product of what each station adds."""
    state = 0
    for place in range(2 * n_links - 1):
        word = word_after(counter, place)
        below = link_below if place < n_links else swap_below
        state ^= 1 | np.int64(word & _ONE) << 1 | drawn_error(word, below) << 2
    return state


@njit(I64(I64_TABLE, I64, I64, I64, I64, I64), cache=True, nogil=True)
def note(heralds, n, attempt, slot, station, outcome):  # noqa: PLR0913, PLR0917 (kernel)
    """Put a herald after the ``n`` so far; returns n + 1."""
    heralds[n, 0], heralds[n, 1] = attempt, slot
    heralds[n, 2], heralds[n, 3] = station, outcome
    return n + 1


@njit(
    I64(I64, I64, U64, I64_IN, F64_IN, F64_IN, F64_IN, I64_TABLE, U8_OUT, I64_TABLE, I64_OUT),
    cache=True,
    nogil=True,
)
def play_rounds(  # noqa: C901, PLR0912, PLR0913, PLR0917 - a kernel takes no object
    n_attempts,
    n_slots,
    key,
    shape,
    chances,
    link_below,
    swap_below,
    pairs,
    states,
    heralds,
    counts,
):
    """Play ``n_attempts`` attempts of every slot; returns the pairs, or -1 without room for them.

    A round has its own words: for each station what it announces, for each link when it is ready,
    for each repeater whether it swaps, and one for the memories. Only those that matter are made.

    shape       int64[4]: links, attempts of the cut-off, `Chain.up`, `Chain.out`
    chances     float64[3]: of a link, of a swap; -ln of what an attempt leaves of a memory
    link_below, swap_below  float64[3] of the errors of a heralded link and of a swap
    pairs       int64[m, 3]: attempt when the ends read out, slot, attempts in memories in all
    states      uint8[m]: frame | error << 2, both x | z << 1
    heralds     int64[k, 4]: attempt, slot, station, outcome, in the order of slots; those beyond
                the k-th are only counted
    counts      int64[N_COUNTS], added to
    """
    n_links, cutoff, up, out = shape[0], shape[1], shape[2], shape[3]
    scale = -1.0 / math.log1p(-chances[0])
    ready = np.empty(n_links, np.int64)
    n = n_heralds = 0
    for slot in range(n_slots):
        counter = mix64(key + np.uint64(slot) * GOLDEN)
        begin = np.int64(0)
        while True:
            counter += np.uint64(4 * n_links) * GOLDEN
            first, last = 2 * n_attempts, np.int64(0)
            for link in range(n_links):
                gap = exponential(word_after(counter, 2 * n_links + link)) * scale
                ready[link] = begin + np.int64(gap) if gap < n_attempts else 2 * n_attempts
                first, last = min(first, ready[link]), max(last, ready[link])
            if first >= n_attempts:
                break
            over = min(last, first + cutoff)
            for link in range(n_links):
                if ready[link] <= over and ready[link] < n_attempts:
                    counts[_LINKS] += 1
                    if n_heralds < heralds.shape[0]:
                        outcome = np.int64(word_after(counter, link) & _ONE)
                        station = 2 * link + 1
                        n_heralds = note(heralds, n_heralds, ready[link], slot, station, outcome)
            begin = over + 1 + up + out
            if begin > n_attempts:
                break
            if last > over:
                counts[_DROPPED] += 1
                continue
            n_swapped = 0
            for link in range(1, n_links):
                swapped = unit(word_after(counter, 3 * n_links + link)) < chances[1]
                n_swapped += swapped
                if n_heralds < heralds.shape[0]:
                    told = np.int64(word_after(counter, n_links + link - 1) & _ONE)
                    outcome = told if swapped else np.int64(FAILED)
                    n_heralds = note(heralds, n_heralds, over + up, slot, 2 * link, outcome)
            counts[_TRIED] += n_links - 1
            counts[_SWAPPED] += n_swapped
            if n_swapped < n_links - 1:
                continue
            if n == pairs.shape[0]:
                return -1
            waited = 2 * n_links * (1 + up) + 2 * out
            for link in range(n_links):
                waited += 2 * (last - ready[link])
            states[n] = joined_state(counter, n_links, link_below, swap_below)
            flips = (1.0 - math.exp(-waited * chances[2])) / 2.0
            if unit(word_after(counter, 3 * n_links)) < flips:
                states[n] ^= PHASE << 2
            pairs[n, 0], pairs[n, 1], pairs[n, 2] = begin, slot, waited
            n += 1
    return n


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The pairs of the ends, in the order of time.

    attempt, slot  int64[n]: read out when this attempt begins, at the place of this slot
    waited         int64[n]: attempts that all memories have waited together
    frame          uint8[n], x | z << 1: what the announced outcomes say is to be corrected
    error          uint8[n], x | z << 1: what nobody knows; the outcomes differ where it is set
    """

    attempt: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64]
    waited: npt.NDArray[np.int64]
    frame: npt.NDArray[np.uint8]
    error: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Heralds:
    """What the stations announce, in the order of time; it is public.

    time_ps  int64[n], at the station, from the beginning of the block
    attempt  int64[n]
    slot     int64[n]
    station  int64[n]: 2 k + 1 in the middle of link k, 2 k at repeater k
    outcome  int64[n]: which of two Bell states, 0 or 1; `FAILED` at a repeater
    """

    time_ps: npt.NDArray[np.int64]
    attempt: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64]
    station: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of the heralds of one block."""

    links: int
    swaps_tried: int
    swaps: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What a chain did in a number of attempts; ``heralds`` only when they were asked for."""

    pairs: Pairs
    counts: Counts
    heralds: Heralds | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When things happen in an attempt, in picoseconds from its beginning in slot 0."""

    attempt_ps: float
    slot_ps: float
    flight_ps: float  # from a node to the middle of its link
    electronics_ps: float

    @staticmethod
    def of(scenario: RepeaterScenario) -> "Timing":
        return Timing(
            attempt_ps=PS_PER_S * scenario.attempt_s,
            slot_ps=1e3 * scenario.chain.slot_ns,
            flight_ps=PS_PER_S * flight_s(scenario.fibre.length_km),
            electronics_ps=1e6 * scenario.chain.electronics_us,
        )

    def begins(
        self, attempt: npt.NDArray[np.int64], slot: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """When each attempt begins in its slot."""
        begun: npt.NDArray[np.float64] = attempt * self.attempt_ps + slot * self.slot_ps
        return begun

    @property
    def herald_latency_ps(self) -> float:
        """From an attempt to the announcement of its herald at both nodes of the link."""
        return 2 * self.flight_ps + self.electronics_ps


def play(
    scenario: RepeaterScenario, n_attempts: int, seed: int, *, with_heralds: bool = False
) -> Played:
    """The chain in ``n_attempts`` attempts of each slot. The same ``seed`` gives the same."""
    chain = Chain.of(scenario)
    rounds = chain.slots * n_attempts / chain.attempts
    room = _room(rounds * chain.joined)
    kept = _room(2 * chain.n_links * rounds) if with_heralds else 0
    while True:
        pairs, states = np.empty((room, 3), np.int64), np.empty(room, np.uint8)
        heralds, counts = np.empty((kept, 4), np.int64), np.zeros(N_COUNTS, np.int64)
        n = play_rounds(
            n_attempts,
            chain.slots,
            block_keys(seed)[EVENTS],
            shape_of(chain, n_attempts),
            np.array([chain.link.success, chain.swap.success, -math.log(chain.by_attempt)]),
            below(chain.link.pair),
            below(chain.swapped),
            pairs,
            states,
            heralds,
            counts,
        )
        n_heralds = int(counts[_LINKS] + counts[_TRIED])
        if n >= 0 and not (with_heralds and n_heralds > kept):
            break
        room, kept = 2 * room, max(2 * kept, n_heralds) if with_heralds else 0
    return Played(
        pairs=ordered_pairs(pairs[:n], states[:n]),
        counts=Counts(
            links=int(counts[_LINKS]),
            swaps_tried=int(counts[_TRIED]),
            swaps=int(counts[_SWAPPED]),
            dropped=int(counts[_DROPPED]),
        ),
        heralds=announced(heralds[:n_heralds], Timing.of(scenario)) if with_heralds else None,
    )


def shape_of(chain: Chain, n_attempts: int) -> npt.NDArray[np.int64]:
    """As `play_rounds` takes it."""
    cutoff = 2 * n_attempts if chain.cutoff is None else chain.cutoff
    return np.array([chain.n_links, cutoff, chain.up, chain.out], np.int64)


def below(pair: BellDiagonal) -> npt.NDArray[np.float64]:
    """As `drawn_error` takes them."""
    return np.cumsum(pair.weights)[:3]


def ordered_pairs(pairs: npt.NDArray[np.int64], states: npt.NDArray[np.uint8]) -> Pairs:
    """The pairs of a kernel in the order of time."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    attempt, slot, waited = pairs[order].T
    return Pairs(attempt, slot, waited, states[order] & np.uint8(3), states[order] >> np.uint8(2))


def announced(heralds: npt.NDArray[np.int64], timing: Timing) -> Heralds:
    attempt, slot, station, outcome = heralds.T
    in_link = station % 2 == 1
    # a swap begins when the attempt of the last herald is over everywhere
    late = np.where(in_link, timing.flight_ps, timing.attempt_ps) + timing.electronics_ps
    time_ps = np.rint(timing.begins(attempt, slot) + late).astype(np.int64)
    order = np.argsort(time_ps, kind="stable")
    return Heralds(time_ps[order], *(column[order] for column in (attempt, slot, station, outcome)))


def _room(expected: float) -> int:
    return int(expected + 10 * math.sqrt(expected)) + 64
