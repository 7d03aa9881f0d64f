"""Which checks a driver is put to, by what its ends give and whether they are joined."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.conformance import keys, pairs, pulses, sifted
from qkd_sim_link.conformance.keys import KeyEnds
from qkd_sim_link.conformance.one_end import OneEnd
from qkd_sim_link.conformance.pairs import PairLink
from qkd_sim_link.conformance.pulses import Pair, SelfTestedPair
from qkd_sim_link.conformance.sifted import SiftedEnds
from qkd_sim_link.conformance.sources import SOURCE_CHECKS
from qkd_sim_link.conformance.verdicts import Row, rows
from qkd_sim_link.drivers.contract import TagSource

PATIENCE_S = 2.0
BOTH = "both"
EITHER = "end"


@dataclass(frozen=True, slots=True)
class Trial:
    """Some checks of one subject; ``where``: the side, or that it takes both."""

    where: str
    checks: tuple[Callable[[Any], None], ...]
    subject: object

    def __len__(self) -> int:
        return len(self.checks)

    def rows(self) -> Iterator[Row]:
        return rows(self.where, self.checks, self.subject)


def numbers() -> Iterator[BlockId]:
    """Block numbers for the checks."""
    return map(BlockId, count(1))


def of_source(source: TagSource, settings: PairSettings) -> tuple[Trial, ...]:
    """A single device that gives time tags, and begins an epoch by itself."""
    end = OneEnd(source=source, settings=settings, block_ids=numbers(), patience_s=PATIENCE_S)
    return (Trial(EITHER, SOURCE_CHECKS, end),)


def of_pair_link(
    link: PairLink, sources: dict[Side, TagSource], *, joined: bool
) -> tuple[Trial, ...]:
    """Both ends of a link of pairs.

    joined  an epoch begins when both ends are armed; recordings know nothing of each other
    """
    trials = []
    for side, source in sources.items():
        end = OneEnd(
            source=source,
            settings=link.settings,
            block_ids=link.block_ids,
            patience_s=link.patience_s,
            other=sources[side.other] if joined else None,
        )
        trials.append(Trial(side.value, SOURCE_CHECKS, end))
    return (*trials, Trial(BOTH, pairs.CHECKS if joined else pairs.OF_BOTH, link))


def of_pulse_link(pair: Pair, source: TagSource) -> tuple[Trial, ...]:
    """Both ends of a link of decoy pulses; ``source``: the driver of Bob's device."""
    end = OneEnd(
        source=source,
        settings=pair.settings,
        block_ids=pair.block_ids,
        patience_s=pair.patience_s,
        other=pair.alice,
    )
    trials = (Trial(Side.B.value, SOURCE_CHECKS, end), Trial(BOTH, pulses.CHECKS, pair))
    if isinstance(pair, SelfTestedPair):
        return (*trials, Trial(BOTH, pulses.SELF_TEST_CHECKS, pair))
    return trials


def of_keys(ends: KeyEnds) -> tuple[Trial, ...]:
    """The boxes of both ends of a link of finished keys."""
    return (Trial(BOTH, keys.CHECKS, ends),)


def of_sifted(ends: SiftedEnds) -> tuple[Trial, ...]:
    """The devices of both ends of a link of sifted bits."""
    return (Trial(BOTH, sifted.CHECKS, ends),)
