"""The report of a chain of repeaters: also when heralds come, and how often swaps succeed."""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import numpy.typing as npt

from qkd_core.types.plans import PairSettings
from qkd_sim_link.physics.chain import Chain, Reading, coincidences, expected_repeater_model
from qkd_sim_link.reports.asked import Asked
from qkd_sim_link.reports.figures import Figure, Report, in_order
from qkd_sim_link.reports.intervals import of_proportion, of_quantile, of_rate
from qkd_sim_link.reports.keys import keys_of
from qkd_sim_link.reports.pulses import FAULTS, PER_S, block_seed
from qkd_sim_link.reports.tagged import HALVES, PS_PER_S, TaggedLight, draw_blocks
from qkd_sim_link.sampling.herald import Counts, Heralds, Pairs, Timing, play
from qkd_sim_link.scenarios.repeaters import RepeaterScenario

KIND = "chain of repeaters"
QUANTILES = (0.5, 0.9, 0.99)
HERALDS = 100_000  # about so many show how long they take
Attempts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeaterRun:
    """The blocks of a chain, drawn in ``wall_s``.

    pairs        of the ends, announced in each block
    swaps        that succeeded, and that were tried, in all blocks
    waits        int64[n], rising: attempts from the beginning of a round to each of its heralds,
                 the one that is heralded included
    latency_s    from an attempt to its announcement at both nodes: the least and the most
    gaps         int64[n]: attempts from a pair of the ends to the next in its slot
    """

    scenario: RepeaterScenario
    asked: Asked
    light: TaggedLight
    pairs: tuple[int, ...]
    swaps: tuple[int, int]
    waits: Attempts
    latency_s: tuple[float, float]
    gaps: Attempts
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
            figures=in_order((_announced(self), *light.figures(), *_heralds(self), _swaps(self))),
            notes=(FAULTS,) if self.scenario.faults else (),
        )


def run_repeaters(scenario: RepeaterScenario, asked: Asked) -> RepeaterRun:
    """Simulate the blocks. Raises ConfigError, ClockNotFound."""
    n, link_s = asked.lengths(scenario.settings.link_s)
    settings = replace(scenario.settings, link_s=link_s)
    blocks, wall_s = draw_blocks(scenario, settings, asked, n)
    attempts = ceil(link_s / scenario.attempt_s)
    played = [_played(scenario, attempts, block_seed(asked.seed, number)) for number in range(n)]
    heralds = _some_heralds(scenario, attempts, block_seed(asked.seed, 0))
    model = expected_repeater_model(scenario, settings)
    ahead = asked.plan_ahead(scenario.name, settings)
    light = TaggedLight(
        settings=settings,
        blocks=blocks,
        model=model,
        missed=_missed(scenario, settings),
        even=_even(scenario, settings),
        clicks=_clicks(scenario),
        keys=keys_of(ahead, model, [block.corrected for block in blocks]),
        confidence=asked.confidence,
    )
    return RepeaterRun(
        scenario=scenario,
        asked=asked,
        light=light,
        pairs=tuple(n_pairs for n_pairs, _ in played),
        swaps=(sum(c.swaps for _, c in played), sum(c.swaps_tried for _, c in played)),
        waits=np.sort(waiting(heralds, Chain.of(scenario))),
        latency_s=_latency_s(heralds, scenario),
        gaps=_gaps(play(scenario, attempts, block_seed(asked.seed, 0)).pairs),
        wall_s=wall_s,
    )


def _played(scenario: RepeaterScenario, attempts: int, seed: int) -> tuple[int, Counts]:
    """How many pairs a block gave, and what its stations did."""
    found = play(scenario, attempts, seed)
    return found.pairs.attempt.size, found.counts


def _some_heralds(scenario: RepeaterScenario, attempts: int, seed: int) -> Heralds:
    """Of the beginning of a block."""
    chain = Chain.of(scenario)
    rounds = HERALDS / (2 * chain.n_links - 1)
    enough = ceil(rounds * chain.attempts / chain.slots)
    heralds = play(scenario, min(attempts, enough), seed, with_heralds=True).heralds
    if heralds is None:
        raise TypeError("heralds were asked for")
    return heralds


def waiting(heralds: Heralds, chain: Chain) -> Attempts:
    """int64[n]: attempts from the beginning of a round to each herald of a link, it included.

    A round is over when all links are ready or at the cut-off; the next one begins when its news
    has reached the ends. The last one, which the record cuts short, is left out.
    """
    in_link = np.flatnonzero(heralds.station % 2 == 1)
    order = in_link[np.lexsort((heralds.attempt[in_link], heralds.slot[in_link]))]
    attempts, slots = heralds.attempt[order].tolist(), heralds.slot[order].tolist()
    found: list[int] = []
    rest = 1 + chain.up + chain.out
    slot, begin, seen = -1, 0, [0]
    for attempt, place in zip(attempts, slots, strict=True):
        if place != slot:
            slot, begin, seen = place, 0, []
        over = _round_over(seen, chain)
        if over is not None and (attempt > over or len(seen) == chain.n_links):
            found += [each - begin + 1 for each in seen]
            begin, seen = over + rest, []
        seen.append(attempt)
    return np.array(found, np.int64)


def _round_over(seen: list[int], chain: Chain) -> int | None:
    """The attempt that ends a round with the heralds ``seen``; None while nothing does."""
    if len(seen) == chain.n_links:
        return seen[-1]
    return seen[0] + chain.cutoff if seen and chain.cutoff is not None else None


def waiting_law(chain: Chain, n: int) -> npt.NDArray[np.float64]:
    """float64[n]: probability that a herald comes with attempt 1, 2, ... n of its round.

    p q^(k - 1), for those that come before the cut-off: of the others none is earlier than k - c.
    """
    k = np.arange(1, n + 1, dtype=np.float64)
    p, q = chain.link.success, 1 - chain.link.success
    law: npt.NDArray[np.float64] = p * q ** (k - 1)
    if chain.cutoff is not None:
        law *= q ** ((chain.n_links - 1) * np.maximum(0.0, k - chain.cutoff - 1))
    law /= law.sum()
    return law


def _latency_s(heralds: Heralds, scenario: RepeaterScenario) -> tuple[float, float]:
    """At the node, to which news flies as far as the photon did."""
    timing, in_link = Timing.of(scenario), heralds.station % 2 == 1
    sent = timing.begins(heralds.attempt[in_link], heralds.slot[in_link])
    late = (heralds.time_ps[in_link] + timing.flight_ps - sent) / PS_PER_S
    return float(late.min()), float(late.max())


def _gaps(pairs: Pairs) -> Attempts:
    order = np.lexsort((pairs.attempt, pairs.slot))
    slot = pairs.slot[order]
    gaps: Attempts = np.diff(pairs.attempt[order])[slot[1:] == slot[:-1]]
    return gaps


def _announced(run: RepeaterRun) -> Figure:
    seconds = run.light.link_s
    return Figure(
        metric="M1",
        name="pairs of the ends announced",
        part="raw",
        unit=PER_S,
        value=sum(run.pairs) / seconds,
        interval=of_rate(run.pairs, seconds, run.asked.confidence),
        expected=Chain.of(run.scenario).rate_hz,
    )


def _heralds(run: RepeaterRun) -> list[Figure]:
    """From the first attempt of a round to the announcement of a link's herald: quantiles."""
    chain, latency_s = Chain.of(run.scenario), Timing.of(run.scenario).herald_latency_ps / PS_PER_S
    n = int(run.waits[-1]) + int(20 / chain.link.success)
    up_to = np.cumsum(waiting_law(chain, n))
    least, most = run.latency_s
    figures = [
        Figure(
            metric="M3",
            name="herald latency",
            part="of one attempt",
            unit="s",
            value=most,
            expected=latency_s,
            note=f"out, electronics and back; {least:.6g} to {most:.6g} s, without jitter here",
        )
    ]
    for share in QUANTILES:
        place = min(run.waits.size - 1, int(share * run.waits.size))
        attempts = Figure(
            metric="M3",
            name="herald latency with waiting",
            part=f"p{100 * share:g}",
            unit="s",
            value=float(run.waits[place] - 1),
            interval=of_quantile(run.waits - 1, share, run.asked.confidence),
            expected=float(np.searchsorted(up_to, share)),
        )
        figures.append(_later(attempts.scaled(chain.attempt_s), latency_s))
    return figures


def _later(figure: Figure, seconds: float) -> Figure:
    interval = figure.interval
    return replace(
        figure,
        value=(figure.value or 0.0) + seconds,
        interval=interval
        and replace(interval, low=interval.low + seconds, high=interval.high + seconds),
        expected=(figure.expected or 0.0) + seconds,
        note="from the first attempt of a round, of links that are heralded before the cut-off",
    )


def _swaps(run: RepeaterRun) -> Figure:
    swapped, tried = run.swaps
    return Figure(
        metric="M9",
        name="swap success",
        part="per repeater",
        value=swapped / tried if tried else None,
        interval=of_proportion(swapped, tried, run.asked.confidence),
        expected=Chain.of(run.scenario).swap.success,
        note="" if tried else "no repeaters",
    )


def _missed(scenario: RepeaterScenario, settings: PairSettings) -> float:
    """Of true coincidences, outside the window."""
    wide = replace(settings, window_ps=settings.hold_off_ps - 1)
    return 1 - coincidences(scenario, settings).true / coincidences(scenario, wide).true


def _even(scenario: RepeaterScenario, settings: PairSettings) -> int:
    """A photon in the middle of a gate meets noise within half a gate of it, and none further."""
    half_ps = max(1, settings.window_ps // 2)
    return min(HALVES, int(1e3 * scenario.receiver.gate_ns / 2 / half_ps) - 1)


def _clicks(scenario: RepeaterScenario) -> npt.NDArray[np.float64]:
    """float64[2, 4]: of each end's detectors in a second, in announced gates."""
    reading, rate = Reading.of(scenario), Chain.of(scenario).rate_hz
    p_key = scenario.receiver.p_key_basis
    of_basis = np.array([p_key, p_key, 1 - p_key, 1 - p_key])
    each = rate * ((reading.efficiency + reading.light) * of_basis / 2 + reading.dark / 4)
    return np.stack([each, each])
