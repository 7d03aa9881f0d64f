"""Who owns which stored bytes, and when an owner gives idle ones away.

A block splits into two halves by a common rule; after that an owner may cede free ranges, for good.
The newest cession of a byte decides. The giver records its loss before it tells the peer, so the
bytes are nobody's in between and never both sites'. Source: `architecture.md`, section 3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qkd_core.types.agreement import Cession
from qkd_core.types.ids import Side
from qkd_core.types.keys import BlockLayout, KeyRange


def owner_of(part: KeyRange, layout: BlockLayout, cessions: Sequence[Cession]) -> Side | None:
    """The side that owns all of ``part``; None when it is not within one run of one owner.

    ``cessions``: of the block of ``part``, oldest first.
    """
    for cession in reversed(cessions):
        given = cession.part
        if given.start <= part.start and part.stop <= given.stop:
            return cession.owner
        if given.start < part.stop and part.start < given.stop:
            return None
    for side in Side:
        start, stop = layout.half(side)
        if start <= part.start and part.stop <= stop:
            return side
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """One owner's free bytes, and how fast they are drawn."""

    free_bytes: int
    drained_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CedingRule:
    """When an owner gives, and how much.

    kept_part   of all free bytes, that no side's share falls below
    low_part    of its share, below which a side is short and asks
    kept_bytes  that an owner always keeps, for a burst of its own
    least_bytes below which nothing is moved
    most_bytes  in one turn
    """

    kept_part: float = 0.1
    low_part: float = 0.5
    kept_bytes: int = 8192
    least_bytes: int = 4096
    most_bytes: int = 1 << 20


def share_of(mine: Stock, theirs: Stock, rule: CedingRule) -> float:
    """The part of all free bytes that is due to ``mine``: the ratio follows demand."""
    demand = mine.drained_bytes_per_s + theirs.drained_bytes_per_s
    wanted = mine.drained_bytes_per_s / demand if demand > 0 else 0.5
    return min(max(wanted, rule.kept_part), 1 - rule.kept_part)


def is_short(mine: Stock, theirs: Stock, rule: CedingRule) -> bool:
    """Whether ``mine`` should ask: drawn from, and far below its share of what both have."""
    due = share_of(mine, theirs, rule) * (mine.free_bytes + theirs.free_bytes)
    return mine.drained_bytes_per_s > 0 and mine.free_bytes < rule.low_part * due


def bytes_to_cede(mine: Stock, theirs: Stock, rule: CedingRule) -> int:
    """What the owner of ``mine`` gives to a peer that is short; 0 when there is no call for it."""
    if not is_short(theirs, mine, rule):
        return 0
    total = mine.free_bytes + theirs.free_bytes
    kept = max(rule.kept_bytes, int(share_of(mine, theirs, rule) * total))
    spare = mine.free_bytes - kept
    return 0 if spare < rule.least_bytes else min(spare, rule.most_bytes)


def tails(runs: Iterable[KeyRange], n_bytes: int) -> tuple[KeyRange, ...]:
    """Up to ``n_bytes`` from the far ends of the runs, in their order: what is drawn last."""
    given: list[KeyRange] = []
    for run in runs:
        if n_bytes <= 0:
            break
        start = max(run.start, run.stop - n_bytes)
        given.append(KeyRange(run.block_id, start, run.stop))
        n_bytes -= run.stop - start
    return tuple(given)
