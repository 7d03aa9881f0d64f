"""Pictures of links whose devices give time tags: coincidences by lag, and waiting times."""

from math import erf, sqrt

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qkd_sim_link.physics.chain import Chain
from qkd_sim_link.physics.pairs import PS_PER_S, rates
from qkd_sim_link.reports.pairs import PairRun
from qkd_sim_link.reports.picture_style import BLUE, GREY, RED
from qkd_sim_link.reports.repeaters import RepeaterRun, waiting_law
from qkd_sim_link.reports.tagged import FINE_PS, fine_bins

BARS = 60
Floats = npt.NDArray[np.float64]


def lags(run: PairRun) -> Figure:
    """Pairs of events by how late Bob's comes."""
    light, window_ps = run.light, run.light.settings.window_ps
    n = fine_bins(light.settings)
    counts = np.sum([block.fine_lags for block in light.blocks], axis=0)
    edges = FINE_PS * np.arange(-n, n + 1)
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.axvspan(-window_ps / 2, window_ps / 2, color=BLUE, alpha=0.08, linewidth=0,
                 label=f"window of {window_ps} ps")  # fmt: skip
    axes.stairs(
        np.maximum(counts, 0.5), edges, color=RED, label="simulated", baseline=0.5, linewidth=1.3
    )
    axes.plot(edges[:-1] + FINE_PS / 2, _lag_law(run, edges), color=BLUE, label="by physics")
    axes.set(
        xlim=(edges[0], edges[-1]),
        ylim=(0.8, 3 * counts.max()),
        xlabel="Bob's event after Alice's, by her clock (ps)",
        ylabel=f"pairs of events in {FINE_PS} ps",
        title=f"{run.scenario.name}: coincidences of {light.link_s:g} s",
    )
    axes.legend(loc="upper right")
    return figure


def _lag_law(run: PairRun, edges: npt.NDArray[np.int64]) -> Floats:
    """Mean counts: a Gaussian of both jitters, spread over the announced resolution; accidents.

    Beside those of `physics.pairs` an event meets the one that kept its partner from being one.
    """
    settings = run.light.settings
    found = rates(run.scenario, settings)
    sigma, half = sqrt(2) * run.scenario.detector.jitter_sigma_ps, settings.resolution_ps / 2
    places = np.arange(edges[0] - FINE_PS, edges[-1] + 2 * FINE_PS, 1.0)
    cumulated = np.array([0.5 + 0.5 * erf(x / (sqrt(2) * max(sigma, 1e-6))) for x in places])
    density = np.interp(places + half, places, cumulated) - np.interp(
        places - half, places, cumulated
    )  # of a sum of both, times 2 half
    whole = np.concatenate([[0.0], np.cumsum(density)]) / (2 * half)
    share = np.interp(edges[1:], places, whole[:-1]) - np.interp(edges[:-1], places, whole[:-1])
    true = (found.true + found.missed) * run.light.common_s
    hid = true * FINE_PS / PS_PER_S * np.where(edges[1:] <= 0, found.clicks_b, found.clicks_a)
    hid *= run.scenario.pulses is None  # else those come with other pulses
    far = np.abs(edges[1:] - FINE_PS / 2) > settings.window_ps  # nearer ones are one event
    accidental = found.accidental * run.light.common_s * FINE_PS / settings.window_ps
    law: Floats = true * share + accidental + hid * far
    return law


def waits(run: RepeaterRun) -> Figure:
    """How long links wait for a herald, and the ends for a pair."""
    chain = Chain.of(run.scenario)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    herald, pair = figure.subplots(ncols=2)
    size = _bars(herald, run.waits, chain.attempt_s)
    law = waiting_law(chain, int(run.waits.max()))
    _curve(herald, law, (size, run.waits.size, chain.attempt_s), "geometric law, to the cut-off")
    herald.set(
        xlabel="wait of a link for its herald (ms)",
        ylabel=f"heralds in {1e3 * size * chain.attempt_s:.3g} ms",
    )
    size = _bars(pair, run.gaps, chain.attempt_s)
    mean = chain.attempts / chain.joined
    attempt = np.arange(1, int(run.gaps.max()) + 1)
    _curve(pair, np.exp(-attempt / mean) / mean, (size, run.gaps.size, chain.attempt_s),
           f"exponential, mean by physics {1e3 * mean * chain.attempt_s:.3g} ms")  # fmt: skip
    found = 1e3 * float(run.gaps.mean()) * chain.attempt_s
    pair.axvline(found, color=GREY, linestyle=":", label=f"mean of the run, {found:.3g} ms")
    pair.set(
        xlabel="from a pair of the ends to the next in its slot (ms)",
        ylabel=f"pairs in {1e3 * size * chain.attempt_s:.3g} ms",
    )
    for axes in (herald, pair):
        axes.set_yscale("log")
        axes.set_ylim(0.8, None)
        axes.legend(loc="upper right")
    hops = run.scenario.chain.hops
    figure.suptitle(
        f"{run.scenario.name}: {hops} repeater{'s' * (hops > 1)}, waiting times", fontsize=11
    )
    return figure


def _bars(axes: Axes, values: npt.NDArray[np.int64], attempt_s: float) -> int:
    """A histogram over attempts from 1 on; returns how many attempts a bar has."""
    size = max(1, -(-int(values.max()) // BARS))
    n = -(-int(values.max()) // size)
    counts = np.bincount((values - 1) // size, minlength=n)
    edges = 1e3 * attempt_s * size * np.arange(counts.size + 1)
    axes.stairs(counts, edges, fill=True, color=RED, alpha=0.55, label="simulated")
    axes.set_xlim(0, edges[-1])
    return size


def _curve(axes: Axes, law: Floats, scale: tuple[int, int, float], label: str) -> None:
    """Mean counts in bars of ``scale``: attempts in a bar, values in all, length of an attempt."""
    size, n, attempt_s = scale
    bars = np.add.reduceat(law, np.arange(0, law.size, size))
    if law.size % size:
        bars = bars[:-1]  # the last one is cut
    middle = 1e3 * attempt_s * size * (np.arange(bars.size) + 0.5)
    axes.plot(middle, n * bars, color=BLUE, label=label)
