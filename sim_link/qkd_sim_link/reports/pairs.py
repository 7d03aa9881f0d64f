"""The report of a source of entangled pairs between two sites."""

from dataclasses import dataclass, replace
from math import hypot, sqrt

import numpy as np

from qkd_core.types.ids import Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.physics.pairs import detector_rates_hz, expected_pair_model, lag_spread_ps, rates
from qkd_sim_link.reports.asked import Asked
from qkd_sim_link.reports.figures import Figure, Report, absent, in_order
from qkd_sim_link.reports.intervals import of_rate
from qkd_sim_link.reports.keys import keys_of
from qkd_sim_link.reports.pulses import FAULTS, PER_S
from qkd_sim_link.reports.tagged import HALVES, TaggedLight, draw_blocks, live_detectors, sums
from qkd_sim_link.scenarios.pairs import SIGMAS, PairScenario

KIND = "entangled pairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRun:
    """The blocks of a link, drawn in ``wall_s``."""

    scenario: PairScenario
    asked: Asked
    light: TaggedLight
    wall_s: float

    @property
    def report(self) -> Report:
        light = self.light
        return Report(
            scenario=self.scenario.name,
            kind=KIND,
            n_blocks=len(light.blocks),
            link_s=light.link_s,
            wall_s=self.wall_s,
            seed=self.asked.seed,
            confidence=self.asked.confidence,
            figures=in_order(self._figures()),
            notes=(FAULTS,) if self.scenario.faults else (),
        )

    def _figures(self) -> tuple[Figure, ...]:
        found = self.light.figures()
        return (
            _all_bases(self),
            *found,
            *live_detectors(found, 1e-9 * self.scenario.detector.dead_time_ns),
            absent("M3", "herald latency", "not applicable: nothing is heralded"),
            absent("M9", "swap success", "not applicable: no repeaters"),
        )


def run_pairs(scenario: PairScenario, asked: Asked) -> PairRun:
    """Simulate the blocks. Raises ConfigError, ClockNotFound."""
    n, link_s = asked.lengths(scenario.settings.link_s)
    settings = replace(scenario.settings, link_s=link_s)
    blocks, wall_s = draw_blocks(scenario, settings, asked, n)
    model, found = expected_pair_model(scenario, settings), rates(scenario, settings)
    ahead = asked.plan_ahead(scenario.name, settings)
    light = TaggedLight(
        settings=settings,
        blocks=blocks,
        model=model,
        missed=found.missed / (found.missed + found.true),
        even=_even(scenario, settings),
        clicks=np.array([detector_rates_hz(scenario, side) for side in Side]),
        keys=keys_of(ahead, model, [block.corrected for block in blocks]),
        confidence=asked.confidence,
    )
    return PairRun(scenario=scenario, asked=asked, light=light, wall_s=wall_s)


def _even(scenario: PairScenario, settings: PairSettings) -> int:
    """`TaggedLight.even`: the light of other pulses is not met by chance, but at their times."""
    if scenario.pulses is None:
        return HALVES
    spread_ps = hypot(lag_spread_ps(scenario, settings), sqrt(2) * scenario.pulses.width_sigma_ps)
    beside = SIGMAS * spread_ps + settings.window_ps / 2
    return min(HALVES, int((scenario.pulses.period_ps - beside) / max(1, settings.window_ps // 2)))


def all_bases_hz(scenario: PairScenario, settings: PairSettings) -> float:
    """Coincidences in a second, whatever the bases, accidental ones among them."""
    found = rates(scenario, settings)
    return found.true + found.accidental


def _all_bases(run: PairRun) -> Figure:
    light = run.light
    counts = sums(light, lambda block: block.all_bases)
    return Figure(
        metric="M1",
        name="coincidences",
        part="raw",
        unit=PER_S,
        value=sum(counts) / light.common_s,
        interval=of_rate(counts, light.common_s, light.confidence),
        expected=all_bases_hz(run.scenario, light.settings),
    )
