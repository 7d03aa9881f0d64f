"""The report of a link of decoy pulses, from the totals of its blocks.

Blocks come from `sampling.counts`, so that their cost does not grow with the clock: no event has a
time here, and light of the self-test is left out.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qkd_core.proofs.expectation import expected
from qkd_core.types.blocks import Tallies
from qkd_core.types.plans import DecoySettings, LinkModel
from qkd_sim_link.physics.course import steady_course
from qkd_sim_link.physics.dead_time import HoldOff
from qkd_sim_link.physics.decoy_bb84 import Gates, choice_weights, expected_model, tired_course
from qkd_sim_link.physics.fault_effects import strained
from qkd_sim_link.reports.asked import Asked
from qkd_sim_link.reports.figures import Figure, Report, absent, in_order
from qkd_sim_link.reports.intervals import BLOCKS_MIN, of_proportion, of_rate
from qkd_sim_link.reports.keys import Corrected, Keys, keys_of
from qkd_sim_link.sampling.counts import Sifted, block_totals
from qkd_sim_link.sampling.drift import course_of
from qkd_sim_link.sampling.event import ClickLaw
from qkd_sim_link.scenarios.pulses import Scenario

KIND = "decoy pulses"
DOUBLE = 2  # the pattern of a double click, see `sampling.counts`
PER_S = "1/s"
FAULTS = "faults of the scenario act; what is expected is without them"
Clicks = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """What one block gave: slots that clicked, by pattern (0 alone, 1 alone, both); sifted ones."""

    patterns: Clicks
    sifted: Sifted


@dataclass(frozen=True, slots=True, kw_only=True)
class PulseRun:
    """The blocks of a link that has been simulated for ``wall_s``."""

    scenario: Scenario
    settings: DecoySettings
    asked: Asked
    blocks: tuple[Block, ...]
    model: LinkModel
    keys: Keys
    wall_s: float

    @property
    def link_s(self) -> float:
        return len(self.blocks) * self.settings.link_s

    @property
    def report(self) -> Report:
        """All figures, per second of the link."""
        return Report(
            scenario=self.scenario.name,
            kind=KIND,
            n_blocks=len(self.blocks),
            link_s=self.link_s,
            wall_s=self.wall_s,
            seed=self.asked.seed,
            confidence=self.asked.confidence,
            figures=in_order(self.figures()),
            notes=_notes(self),
        )

    def figures(self) -> tuple[Figure, ...]:
        return (
            *_events(self),
            *_errors(self),
            *_detectors(self),
            *self.keys.figures(self.asked.confidence),
            absent("M2", "fidelity bound", "not applicable: no pairs, decoys bound the key"),
            absent("M3", "herald latency", "not applicable: nothing is heralded"),
            absent("M5", "window misses", "not applicable: events are slots, gates a period wide"),
            absent("M9", "swap success", "not applicable: no repeaters"),
        )


def run_pulses(scenario: Scenario, asked: Asked) -> PulseRun:
    """Simulate the blocks. Raises ConfigError."""
    own = scenario.source.settings()
    n, block_s = asked.lengths(own.link_s)
    settings = replace(own, n_pulses=max(1, round(block_s * own.clock_hz)))
    begun = time.perf_counter()
    blocks = []
    for number in range(n):
        blocks.append(_block(scenario, settings, number, asked.seed))
        asked.progress(number + 1, n)
    wall_s = time.perf_counter() - begun
    model = expected_model(scenario, settings)
    ahead = asked.plan_ahead(scenario.name, settings)
    told = [_corrected(block.sifted, settings) for block in blocks]
    return PulseRun(
        scenario=scenario,
        settings=settings,
        asked=asked,
        blocks=tuple(blocks),
        model=model,
        keys=keys_of(ahead, model, told),
        wall_s=wall_s,
    )


def block_seed(seed: int, number: int) -> int:
    """Of each block another one."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0])


def _block(scenario: Scenario, settings: DecoySettings, number: int, seed: int) -> Block:
    begun_s, own = number * settings.link_s, block_seed(seed, number)
    course = course_of(scenario, settings, begun_s, seed)
    course = strained(course, scenario.faults, settings, begun_s, seed)
    totals = block_totals(ClickLaw.of(scenario, settings, course), own)
    return Block(
        patterns=totals.clicks.sum(axis=(0, 1)),
        sifted=totals.sifted(np.random.default_rng((own, 1))),
    )


def _corrected(sifted: Sifted, settings: DecoySettings) -> Corrected:
    def counts(array: Clicks) -> tuple[int, ...]:
        return tuple(int(n) for n in array)

    return Corrected(
        tallies=Tallies(
            n_pulses=settings.n_pulses,
            key_counts=counts(sifted.key_counts),
            test_counts=counts(sifted.test_counts),
            test_errors=counts(sifted.test_errors),
        ),
        n_bits=int(sifted.key_counts.sum()),
        n_errors=int(sifted.key_errors.sum()),
    )


def _events(run: PulseRun) -> tuple[Figure, ...]:
    clicked = [int(block.patterns.sum()) for block in run.blocks]
    sifted = [int(b.sifted.key_counts.sum() + b.sifted.test_counts.sum()) for b in run.blocks]
    settings, law = run.settings, _law(run)
    mean = expected(settings, run.model)
    return (
        Figure(
            metric="M1",
            name="clicked slots",
            part="raw",
            unit=PER_S,
            value=sum(clicked) / run.link_s,
            interval=of_rate(clicked, run.link_s, run.asked.confidence),
            expected=law.expected_clicks() / settings.link_s,
        ),
        Figure(
            metric="M1",
            name="sifted events",
            part="usable",
            unit=PER_S,
            value=sum(sifted) / run.link_s,
            interval=of_rate(sifted, run.link_s, run.asked.confidence),
            expected=(sum(mean.key) + sum(mean.test)) / settings.link_s,
        ),
    )


def _errors(run: PulseRun) -> tuple[Figure, ...]:
    mean = expected(run.settings, run.model)
    test = sum(mean.test)
    of_test = sum(mean.test_errors) / test if test else 0.0
    found = []
    for basis, rate in (("key", mean.qber), ("test", of_test)):
        n = sum(int(getattr(b.sifted, f"{basis}_counts").sum()) for b in run.blocks)
        wrong = sum(int(getattr(b.sifted, f"{basis}_errors").sum()) for b in run.blocks)
        found.append(error_rate(basis, (wrong, n), rate, run.asked.confidence))
    return tuple(found)


def error_rate(basis: str, seen: tuple[int, int], mean: float, confidence: float) -> Figure:
    """Of ``seen``, errors and events of a basis."""
    wrong, n = seen
    return Figure(
        metric="M1",
        name="error rate",
        part=f"{basis} basis",
        value=wrong / n if n else None,
        interval=of_proportion(wrong, n, confidence),
        expected=mean,
        note="" if n else "no events",
    )


def _detectors(run: PulseRun) -> list[Figure]:
    """Both detectors: as they click, and as they would without dead time."""
    settings, hold_off = run.settings, HoldOff.of(run.scenario.detector, run.settings.clock_hz)
    dead_s = (hold_off.n_dead - 1) / settings.clock_hz
    slots_hz = sum(int(block.patterns.sum()) for block in run.blocks) / run.link_s
    mean_slots_hz = _law(run).expected_clicks() / settings.link_s
    figures = []
    for detector, mean in enumerate(_expected_clicks(run)):
        counts = [int(b.patterns[detector] + b.patterns[DOUBLE]) for b in run.blocks]
        seen = Figure(
            metric="M4",
            name="detection rate",
            part=f"detector {detector}",
            unit=PER_S,
            value=sum(counts) / run.link_s,
            interval=of_rate(counts, run.link_s, run.asked.confidence),
            expected=mean,
        )
        live = replace(seen, name="detection rate, live", note="of the time in which it is live")
        corrected = live.scaled(1 / (1 - slots_hz * dead_s))
        own = mean / (1 - mean_slots_hz * dead_s)
        figures += [seen, replace(corrected, expected=own)]
    return figures


def _law(run: PulseRun) -> ClickLaw:
    """Of a block in the mean."""
    return ClickLaw.of(run.scenario, run.settings)


def _expected_clicks(run: PulseRun) -> list[float]:
    """Clicks of each detector in a second: those of light and dark counts or an afterpulse."""
    settings, scenario = run.settings, run.scenario
    course = tired_course(steady_course(scenario, settings), scenario, settings)
    gates = Gates(course, settings)
    steady, share = gates.steady(HoldOff.of(scenario.detector, settings.clock_hz))
    weights = choice_weights(settings)[..., None]
    lit = np.sum(weights * gates.click(), axis=(1, 2))  # float64[segment, detector]
    after = steady.afterpulse[:, None] * np.stack([share, 1 - share], axis=-1)
    live = course.gates * steady.live
    clicks = np.sum(live[:, None] * (1 - (1 - lit) * (1 - after)), axis=0)
    return [float(n) / settings.link_s for n in clicks]


def _notes(run: PulseRun) -> tuple[str, ...]:
    """What is to be known of all figures."""
    scenario, notes = run.scenario, []
    if scenario.free_space is not None and len(run.blocks) < BLOCKS_MIN:
        notes.append(f"intervals of rates know of fading only from {BLOCKS_MIN} blocks on")
    if scenario.polarisation is not None:
        drifts = run.link_s / scenario.polarisation.realign_s
        notes.append(
            "intervals of error rates take as given how the polarisation drifted; it was aligned"
            f" anew every {scenario.polarisation.realign_s:g} s: {drifts:.3g} times"
        )
    if scenario.self_test is not None:
        notes.append("light of the self-test is left out")
    if scenario.faults:
        notes.append(FAULTS)
    return tuple(notes)
