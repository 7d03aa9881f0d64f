"""Which method corrects a block: the one that tells least, of those that keep up with the link.

LDPC codes tell more than Cascade's parities in one direction, and less than those in both. They
need a message or a few where Cascade needs a hundred; they take several times the processor.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from qkd_core.errors import ConfigError
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.types.reconciliation import Disclosed, Method, Reconciliation

FRAME_BITS = 1 << 16
LONG_FRAME_BITS = 1 << 20  # of LDPC codes: the longer the better


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a method takes, about: waits for the peer in a block, and processor time."""

    rounds: int
    s_per_mbit: float


COSTS = {  # measured on a core without AVX-512, at the end that works more; see `make efficiency`
    (Method.CASCADE, "fast4"): Cost(rounds=300, s_per_mbit=0.01),
    (Method.CASCADE, "tight4"): Cost(rounds=1000, s_per_mbit=0.02),
    (Method.LDPC, "single"): Cost(rounds=2, s_per_mbit=0.25),
    (Method.LDPC, "blind"): Cost(rounds=4, s_per_mbit=0.8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the choice depends on.

    n_bits, qber      of the block, as planned
    block_s           how often a block comes from the link, in seconds
    blocks_in_flight  so many may be on their way at once
    round_trip_s      of the classical channel
    load              share of the processor that others take, from 0 to 1
    errors_count      both directions count, see `BlockPlan.leak_ec`
    """

    n_bits: int
    qber: float
    block_s: float
    blocks_in_flight: int
    round_trip_s: float
    load: float
    errors_count: bool


def candidates(methods: frozenset[Method], roles_swap: bool) -> Iterator[Reconciliation]:
    """What can be chosen among ``methods``."""
    for method, variant in COSTS:
        if method in methods:
            bits = FRAME_BITS if method is Method.CASCADE else LONG_FRAME_BITS
            yield Reconciliation(
                method=method, variant=variant, frame_bits=bits, roles_swap=roles_swap
            )


def choose(among: list[Reconciliation], conditions: Conditions) -> Reconciliation:
    """The one that tells least of those that keep up, or else the one that is least behind.

    Raises ConfigError for none.
    """
    if not among:
        raise ConfigError("no method of error correction to choose from")
    in_time = [how for how in among if behind(how, conditions) <= 1]
    if in_time:
        return min(in_time, key=lambda how: leak(how, conditions))
    return min(among, key=lambda how: behind(how, conditions))


def leak(how: Reconciliation, conditions: Conditions) -> int:
    """About how many bits the key pays for error correction."""
    told: Disclosed = disclosed_expected(conditions.n_bits, conditions.qber, how)
    return told.about_key + (told.about_errors if conditions.errors_count else 0)


def behind(how: Reconciliation, conditions: Conditions) -> float:
    """The time that blocks take over the time in which they come; above 1 they pile up.

    The processor works for one block at a time; the waits of the blocks in flight overlap.
    """
    cost = COSTS[how.method, how.variant]
    free = max(0.05, 1 - conditions.load)
    working_s = conditions.n_bits / 1e6 * cost.s_per_mbit / free
    waiting_s = cost.rounds * conditions.round_trip_s
    latency = (working_s + waiting_s) / (conditions.blocks_in_flight * conditions.block_s)
    return max(working_s / conditions.block_s, latency)
