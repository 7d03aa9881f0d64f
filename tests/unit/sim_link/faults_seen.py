"""What both sites together see of a block: clicks of each detector, tallies, the peer's clock.

Nothing here comes from the truth: Alice's settings are asked at the slots that Bob announces, and
of pairs both ends' tags go through the engine's own search for the clock.
"""

import os
from dataclasses import dataclass, field, replace

import numpy as np

from qkd_core.photons.alignment import align
from qkd_core.photons.clock import ClockRelation, acquired, coincidences, tracked
from qkd_core.photons.coincidences import Events, events_of
from qkd_core.types.blocks import Detections, RawKey
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import DecoySettings
from qkd_sim_link.sampling.pulses import settings_at
from qkd_sim_link.scenarios.faults import Fault, told_fault
from qkd_sim_link.scenarios.links import LinkScenario
from qkd_sim_link.scenarios.pulses import Scenario
from qkd_sim_link.serving.devices import BlockDraw, devices_of

BLOCK = BlockId(1)
LINK_SEED = 61  # of bursts and walking clocks


def fault(kind: str, *, start_s: float = 0.0, end_s: float = 1e9, **values: object) -> Fault:
    return replace(told_fault(kind, values), start_s=start_s, end_s=end_s, number=1)


@dataclass(frozen=True)
class Pulses:
    """A link of decoy pulses; blocks are drawn one by one."""

    scenario: Scenario
    settings: DecoySettings
    faults: tuple[Fault, ...] = ()

    def block(self, seed: int, begun_s: float = 0.0) -> "PulsesSeen":
        devices = devices_of(self.scenario, LINK_SEED, None)
        clicks = devices.block(self.settings)(BlockDraw(BLOCK, seed, begun_s, self.faults))
        detections = Detections(BLOCK, *clicks[Side.B], Provenance.SIMULATED)
        return PulsesSeen(self.settings, seed, detections)

    def shots(self, seed: int) -> tuple[np.ndarray, float]:
        return devices_of(self.scenario, LINK_SEED, None).shots(self.settings, seed)


@dataclass(frozen=True)
class PulsesSeen:
    settings: DecoySettings
    seed: int
    detections: Detections
    raw: RawKey = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "raw", align(self.detections, self.settings, os.urandom))

    @property
    def clicks(self) -> np.ndarray:
        """Of the detectors of the bits 0 and 1."""
        return np.bincount(self.detections.detector & 1, minlength=2)

    def tally(self, basis: int) -> tuple[np.ndarray, np.ndarray]:
        """Per intensity: sifted events of a basis, and the errors among them."""
        told = settings_at(self.seed, self.raw.slot, self.settings)
        equal = (self.raw.basis == basis) & (told >> 1 & 1 == basis)
        wrong = equal & (self.raw.bit != told & 1)
        of = told >> 2
        n = len(self.settings.intensities)
        return np.bincount(of[equal], minlength=n), np.bincount(of[wrong], minlength=n)

    def qber(self, basis: int) -> tuple[float, int]:
        """The error rate of a basis, and of how many events."""
        n, wrong = (int(each.sum()) for each in self.tally(basis))
        return wrong / n, n


@dataclass(frozen=True)
class Pairs:
    """A link whose ends give time tags."""

    scenario: LinkScenario
    faults: tuple[Fault, ...] = ()

    def blocks(self, *draws: tuple[int, float]) -> list["PairsSeen"]:
        """One for each (seed, begun_s), of one link whose clock runs on between them."""
        devices = devices_of(self.scenario, LINK_SEED, None)
        drawn = devices.block(self.scenario.settings)
        return [
            PairsSeen(self.scenario, drawn(BlockDraw(BLOCK, seed, begun_s, self.faults)))
            for seed, begun_s in draws
        ]


@dataclass(frozen=True)
class PairsSeen:
    scenario: LinkScenario
    tags: dict

    def clicks(self, side: Side) -> np.ndarray:
        """Of each detector, basis << 1 | bit."""
        return np.bincount(self.tags[side][1], minlength=4)

    def events(self) -> list[Events]:
        settings = self.scenario.settings
        return [
            events_of(
                Detections(BLOCK, *self.tags[side], Provenance.SIMULATED), settings, os.urandom
            )
            for side in Side
        ]

    def clock(self) -> ClockRelation:
        """How Bob's clock runs, from nothing."""
        return acquired(*(each.time_ps for each in self.events()))

    def followed(self, before: ClockRelation) -> bool:
        """Whether the clock is still where the block before left it."""
        return tracked(*(each.time_ps for each in self.events()), before) is not None

    def coincidences(self) -> tuple[tuple[float, float], np.ndarray, np.ndarray]:
        """The peer's clock (offset in s, drift in ppm); events and errors of both bases."""
        a, b = self.events()
        clock = acquired(a.time_ps, b.time_ps)
        reach_ps = self.scenario.settings.window_ps // 2
        in_a, in_b = coincidences(a.time_ps, clock.to_alice(b.time_ps), reach_ps)
        first, second = a.outcome[in_a], b.outcome[in_b]
        equal = first >> 1 == second >> 1
        wrong = equal & (first != second)
        n = np.bincount(first[equal] >> 1, minlength=2)
        return clock.told(int(a.time_ps[0])), n, np.bincount(first[wrong] >> 1, minlength=2)
