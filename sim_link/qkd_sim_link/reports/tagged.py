"""What both kinds of links whose devices give time tags have in common: from tags to figures.

Blocks are drawn as the link's own process draws them, faults included. Events, clocks and
coincidences are found from the times of both ends by the code of the engines, in one process.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qkd_core.photons import event_times
from qkd_core.photons.clock import ClockRelation, acquired, coincidences, lag_counts, tracked
from qkd_core.photons.coincidences import Events, events_of
from qkd_core.photons.pair_figures import FAR_WINDOWS, LOOKED_AT_WINDOWS
from qkd_core.types.blocks import Detections, PairTallies
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import PairModel, PairSettings
from qkd_sim_link.reports.asked import Asked
from qkd_sim_link.reports.figures import Figure, absent
from qkd_sim_link.reports.intervals import of_poisson, of_proportion, of_rate
from qkd_sim_link.reports.keys import Corrected, Keys
from qkd_sim_link.reports.pulses import PER_S, block_seed, error_rate
from qkd_sim_link.scenarios.links import TaggedScenario
from qkd_sim_link.serving.devices import BlockDraw, devices_of

DETECTORS = 4
PS_PER_S = 1e12
HALVES = 2 * LOOKED_AT_WINDOWS  # bins of half a window that lags are counted in, to each side
FINE_PS, FINE_WINDOWS = 32, 2.5
FAR = 2 * FAR_WINDOWS  # of them hold no true coincidence
Counts = npt.NDArray[np.int64]
Tags = Mapping[Side, tuple[Counts, npt.NDArray[np.uint8]]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaggedBlock:
    """What one block gave.

    clicks     int64[2, 4]: of each end's detectors (basis << 1 | bit)
    common_s   how long both ends recorded
    n, errors  coincidences in the key basis and in the test basis; those with unlike bits
    all_bases  coincidences in all
    lags       int64[96]: pairs of events by how late Bob's comes, in bins of half a window
    fine_lags  int64[..]: the same in bins of `FINE_PS`, up to `FINE_WINDOWS` windows to each side
    """

    clicks: Counts
    common_s: float
    n: tuple[int, int]
    errors: tuple[int, int]
    all_bases: int
    lags: Counts
    fine_lags: Counts
    clock: ClockRelation

    @property
    def corrected(self) -> Corrected:
        """As both ends know it after error correction."""
        n_key, n_test = self.n
        return Corrected(
            tallies=PairTallies(n_key=n_key, n_test=n_test, test_errors=self.errors[1]),
            n_bits=n_key,
            n_errors=self.errors[0],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedLight:
    """Blocks of one link, and what its physics says of them.

    missed  of true coincidences, outside the window
    even    accidental ones are equally dense up to so many bins of `TaggedBlock.lags` from 0
    clicks  float64[2, 4] in a second, as in `TaggedBlock`
    """

    settings: PairSettings
    blocks: tuple[TaggedBlock, ...]
    model: PairModel
    missed: float
    even: int
    clicks: npt.NDArray[np.float64]
    keys: Keys
    confidence: float

    @property
    def link_s(self) -> float:
        return len(self.blocks) * self.settings.link_s

    @property
    def common_s(self) -> float:
        return sum(block.common_s for block in self.blocks)

    def figures(self) -> tuple[Figure, ...]:
        """Usable events, error rates and M2, M4, M5, M10."""
        return (
            _usable(self),
            *_errors(self),
            _fidelity(self),
            *_detectors(self),
            _missed(self),
            *self.keys.figures(self.confidence),
        )


def draw_blocks(
    scenario: TaggedScenario, settings: PairSettings, asked: Asked, n: int
) -> tuple[tuple[TaggedBlock, ...], float]:
    """``n`` blocks one after another, and how many seconds it took to draw them.

    Raises ClockNotFound where the ends' events show no common light, LinkDown.
    """
    draw = devices_of(scenario, asked.seed, None).block(settings)
    clock, blocks, wall_s = None, [], 0.0
    for number in range(n):
        begun, begun_s = time.perf_counter(), number * settings.link_s
        acting = tuple(
            fault for fault in scenario.faults if fault.overlaps(begun_s, begun_s + settings.link_s)
        )
        seed = block_seed(asked.seed, number)
        tags = draw(BlockDraw(BlockId(number + 1), seed, begun_s, acting))
        wall_s += time.perf_counter() - begun
        blocks.append(_matched(tags, settings, clock))
        clock = blocks[-1].clock
        asked.progress(number + 1, n)
    return tuple(blocks), wall_s


def _matched(tags: Tags, settings: PairSettings, before: ClockRelation | None) -> TaggedBlock:
    """As `photons.coincidences` has it, with both ends at hand."""
    a, b = (_events(tags[side], settings) for side in Side)
    told = event_times.encoded(b.time_ps, settings.resolution_ps)
    bob_ps = event_times.decoded(told, settings.resolution_ps, settings.hold_off_ps)
    clock = (before and tracked(a.time_ps, bob_ps, before)) or acquired(a.time_ps, bob_ps)
    by_alice, half = clock.to_alice(bob_ps), settings.window_ps // 2
    in_a, in_b = coincidences(a.time_ps, by_alice, half)
    mine, theirs = a.outcome[in_a], b.outcome[in_b]
    equal = mine >> 1 == theirs >> 1
    basis, wrong = mine[equal] >> 1, (mine ^ theirs)[equal] & 1
    n_test, test_errors = int(basis.sum()), int(wrong[basis == 1].sum())
    common = min(a.time_ps[-1], by_alice[-1]) - max(a.time_ps[0], by_alice[0])
    clicks = [np.bincount(tags[side][1], minlength=DETECTORS) for side in Side]
    return TaggedBlock(
        clicks=np.array(clicks, np.int64),
        common_s=float(common) / PS_PER_S,
        n=(basis.size - n_test, n_test),
        errors=(int(wrong.sum()) - test_errors, test_errors),
        all_bases=in_a.size,
        lags=lag_counts(a.time_ps, bob_ps, clock, (max(1, half), HALVES)),
        fine_lags=lag_counts(a.time_ps, bob_ps, clock, (FINE_PS, fine_bins(settings))),
        clock=clock,
    )


def fine_bins(settings: PairSettings) -> int:
    """To each side."""
    return max(1, int(FINE_WINDOWS * settings.window_ps / FINE_PS))


def _events(tags: tuple[Counts, npt.NDArray[np.uint8]], settings: PairSettings) -> Events:
    clicks = Detections(BlockId(1), *tags, Provenance.SIMULATED)
    return events_of(clicks, settings, os.urandom)


def sums(light: TaggedLight, value: Callable[[TaggedBlock], int]) -> list[int]:
    return [value(block) for block in light.blocks]


def _usable(light: TaggedLight) -> Figure:
    counts = sums(light, lambda block: sum(block.n))
    return Figure(
        metric="M1",
        name="coincidences, equal bases",
        part="usable",
        unit=PER_S,
        value=sum(counts) / light.common_s,
        interval=of_rate(counts, light.common_s, light.confidence),
        expected=light.model.key_rate_hz + light.model.test_rate_hz,
    )


def seen_errors(light: TaggedLight, basis: int) -> tuple[int, int]:
    """Errors and coincidences of the key basis, 0, or the test basis, 1."""
    blocks = light.blocks
    return sum(block.errors[basis] for block in blocks), sum(block.n[basis] for block in blocks)


def _errors(light: TaggedLight) -> tuple[Figure, Figure]:
    model, confidence = light.model, light.confidence
    return (
        error_rate("key", seen_errors(light, 0), model.key_qber, confidence),
        error_rate("test", seen_errors(light, 1), model.test_qber, confidence),
    )


def _fidelity(light: TaggedLight) -> Figure:
    """F >= 1 - e_Z - e_X; each error rate takes half of what may be wrong."""
    each = (1 + light.confidence) / 2
    key, test = (of_proportion(*seen_errors(light, basis), each) for basis in (0, 1))
    rates = [wrong / n if n else 1.0 for wrong, n in (seen_errors(light, 0), seen_errors(light, 1))]
    return Figure(
        metric="M2",
        name="fidelity, at least",
        value=1 - sum(rates),
        interval=replace(
            key,
            low=1 - key.high - test.high,
            high=1 - key.low - test.low,
            method="Clopper-Pearson of both error rates (Bonferroni)",
        ),
        expected=1 - light.model.key_qber - light.model.test_qber,
        note="1 - e_Z - e_X",
    )


def _detectors(light: TaggedLight) -> list[Figure]:
    figures = []
    for end, side in enumerate(Side):
        for detector in range(DETECTORS):
            counts = sums(light, lambda block, e=end, d=detector: int(block.clicks[e, d]))  # type: ignore[misc]
            figures.append(
                Figure(
                    metric="M4",
                    name="detection rate",
                    part=f"site {side.value}, detector {detector}",
                    unit=PER_S,
                    value=sum(counts) / light.link_s,
                    interval=of_rate(counts, light.link_s, light.confidence),
                    expected=float(light.clicks[end, detector]),
                )
            )
    return figures


def live_detectors(seen: Sequence[Figure], dead_s: float) -> list[Figure]:
    """The detection rates ``seen``, as they would be without a dead time of ``dead_s``.

    R / (1 - R dead) for a detector that is blind for a fixed time after each click: Knoll,
    Radiation Detection and Measurement, chapter 4.
    """
    found = []
    for figure in (each for each in seen if each.metric == "M4"):
        live = figure.scaled(1 / (1 - (figure.value or 0.0) * dead_s))
        own = (figure.expected or 0.0) / (1 - (figure.expected or 0.0) * dead_s)
        found.append(replace(live, name="detection rate, live", expected=own))
    return found


def _missed(light: TaggedLight) -> Figure:
    """True coincidences outside the window, over all; accidental ones taken off by their density.

    As `photons.pair_figures`, with a Poisson interval of the pairs that lie outside.
    """
    if light.even <= FAR:
        return absent("M5", "window misses", "not told: too near to the light of other pulses")
    lags: Counts = np.sum([block.lags for block in light.blocks], axis=0)
    lags = lags[HALVES - light.even : HALVES + light.even]
    middle, bins = lags.size // 2, lags.size
    inside = int(lags[middle - 1 : middle + 1].sum())
    near = int(lags[middle - FAR : middle + FAR].sum())
    by_chance = (int(lags.sum()) - near) / (bins - 2 * FAR)
    true = max(1.0, inside - 2 * by_chance)
    outside, chance = near - inside, by_chance * (2 * FAR - 2)
    interval = of_poisson(outside, light.confidence)

    def share(n: float) -> float:
        more = max(0.0, n - float(chance))
        return more / (more + true)

    return Figure(
        metric="M5",
        name="window misses",
        part="of true coincidences",
        value=share(outside),
        interval=replace(
            interval,
            low=share(interval.low),
            high=share(interval.high),
            method=f"{interval.method}, less accidental ones",
        ),
        expected=light.missed,
    )
