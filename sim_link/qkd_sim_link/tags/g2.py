"""The second-order correlation g2 of two detectors behind a beam splitter, at zero delay.

`pulsed_g2` is for light in pulses: the peak of pairs from one pulse against the mean of the peaks
of pairs from different pulses. `continuous_g2` is for steady light: pairs against what the rates
alone would give. Both take the histogram of `histogram.lags`:

    found = pulsed_g2(lags(a, b, bin_ps=100, reach_ps=100_000))
    found.g2_zero, found.low, found.high, found.delay_ps, found.period_ps

Where the delay between the channels is not given, it is the place that stands out, which must be
beyond chance (`FALSE_ALARM`); where the period is not given, it is that of the histogram.

Limits. Given C + S, the count C of the centre peak beside S in M side peaks is binomial with
p = g / (g + M), whatever the rate: Przyborowski and Wilenski, Biometrika 31, 313 (1940). Each limit
is that of Clopper and Pearson, and fails with a probability of at most `EPS`. That is so for
counts of independent pairs; a source that blinks has side peaks that differ by more.
Source of g2 from peaks: Michler et al., Science 290, 2282 (2000); Brouri et al., Opt. Lett. 25,
1294 (2000) for its background.
"""

from dataclasses import dataclass
from math import ceil, exp, inf, log

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkError
from qkd_core.proofs.clopper_pearson import mean_at_least, mean_at_most
from qkd_sim_link.tags.histogram import Lags

EPS = 0.05  # with which either limit fails
FALSE_ALARM = 1e-6  # that a period or a delay is found where there is none
PERIODS_MIN = 8  # within the histogram
BINS_A_PERIOD_MIN = 12

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PulsedG2:
    """g2 of light in pulses.

    low, high   limits of ``g2_zero``, each wrong with a probability of at most `EPS`
    net         (g - r) / (1 - r): without the background, the share r of a side peak's count that
                also comes between the peaks; with its limits, which include those of r
    delay_ps    how much later the second channel is
    centre      the count of the centre peak
    sides       counts of the others, int64[n], in the order of time
    """

    g2_zero: float
    low: float
    high: float
    net: float
    net_low: float
    net_high: float
    period_ps: float
    delay_ps: float
    centre: int
    sides: Counts
    background: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousG2:
    """g2 of steady light, in a window around ``delay_ps``.

    g2_zero    ``count`` / ``by_chance``
    low, high  limits of it, each wrong with a probability of at most `EPS`
    by_chance  what the rates of the two channels give without correlation
    """

    g2_zero: float
    low: float
    high: float
    delay_ps: float
    count: int
    by_chance: float


def pulsed_g2(
    found: Lags, period_ps: float | None = None, delay_ps: float | None = None
) -> PulsedG2:
    """g2 of light in pulses ``period_ps`` apart, the second channel ``delay_ps`` late.

    A peak is all within a quarter of a period of its middle, the background all the rest. Raises
    LinkError when the histogram shows no period, no delay, or is too coarse or short for it.
    """
    period = pulse_period(found) if period_ps is None else period_ps
    _require_resolved(found, period)
    phase = _phase(found, period)
    if delay_ps is not None:  # the peak that is nearest to it
        phase += period * round((delay_ps - phase) / period)
    peaks, between = _peaks(found, period, phase)
    if delay_ps is None:
        centre = _outstanding(peaks.counts)
        delay = phase + period * (peaks.first + centre)
    else:
        centre, delay = -peaks.first, phase
        if not 0 <= centre < peaks.counts.size:
            raise LinkError(f"delay {delay_ps:g} ps: the histogram does not reach so far")
    count, sides = int(peaks.counts[centre]), np.delete(peaks.counts, centre)
    side = sides.mean()
    if not side:
        raise LinkError("no coincidence in any side peak: g2 has no scale")
    low, high = _ratio_limits(count, int(sides.sum()), sides.size, EPS)
    dark_low, dark_high = _ratio_limits(
        int(between.counts.sum()), int(sides.sum()), sides.size / between.counts.size, EPS / 2
    )
    dark = float(between.counts.mean() / side)
    net_low, net_high = _ratio_limits(count, int(sides.sum()), sides.size, EPS / 2)
    return PulsedG2(
        g2_zero=count / side,
        low=low,
        high=high,
        net=max(0.0, _net(count / side, dark)),
        net_low=max(0.0, _net(net_low, dark_high)),
        net_high=_net(net_high, dark_low),
        period_ps=period,
        delay_ps=delay,
        centre=count,
        sides=sides,
        background=dark,
    )


def continuous_g2(found: Lags, window_ps: int, delay_ps: float | None = None) -> ContinuousG2:
    """g2 of steady light within ``window_ps`` around ``delay_ps``, of whole bins, at least one.

    Where the delay is not given, the window that stands out among those of the histogram. Raises
    LinkError when none does, or none is there. The rates must be steady over the record.
    Limits: of the n_a n_b pairs of events each is in the window or not, nearly a Poisson count.
    """
    n = max(1, round(window_ps / found.bin_ps))
    windows = found.counts.size // n
    if not windows or not found.n_a or not found.n_b:
        raise LinkError(f"g2 within {window_ps} ps: {found.n_a} and {found.n_b} events, no window")
    if delay_ps is None:
        delay_ps = _outstanding_delay(found, n)
    first = ceil((delay_ps - found.low_ps) / found.bin_ps - n / 2 - 0.5)
    if not 0 <= first <= found.counts.size - n:
        raise LinkError(f"delay {delay_ps:g} ps: the histogram does not reach so far")
    inside = slice(first, first + n)
    count, mean = int(found.counts[inside].sum()), float(found.by_chance()[inside].sum())
    trials = found.n_a * found.n_b
    return ContinuousG2(
        g2_zero=count / mean,
        low=mean_at_least(count, trials, EPS) / mean,
        high=mean_at_most(count, trials, EPS) / mean,
        delay_ps=float(found.middle_ps()[inside].mean()),
        count=count,
        by_chance=mean,
    )


def pulse_period(found: Lags) -> float:
    """The period of the histogram in ps: its strongest frequency, sharpened between the bins.

    Raises LinkError when none stands out of the noise of the counts. The power of each frequency
    of N independent counts is N times an exponential number: Jenkins and Watts, Spectral Analysis
    and Its Applications (1968), chapter 6.
    """
    counts = found.counts - found.counts.mean()
    power = np.abs(np.fft.rfft(counts)) ** 2
    lowest = PERIODS_MIN  # a slower swell of the histogram is no comb
    highest = found.counts.size // BINS_A_PERIOD_MIN
    band = power[lowest : highest + 1]
    total = int(found.counts.sum())
    if not band.size or not total or band.max() < total * log(band.size / FALSE_ALARM):
        raise LinkError(
            f"no period stands out in {total} coincidences up to"
            f" {-found.low_ps} ps: pulses need {PERIODS_MIN} periods in it, of"
            f" {BINS_A_PERIOD_MIN} bins each; steady light has none"
        )
    strongest = lowest + int(np.argmax(band))
    while 2 * lowest <= strongest and power[strongest // 2 - 1 : strongest // 2 + 2].max() > (
        0.1 * power[strongest]
    ):  # an overtone
        strongest //= 2
    length = found.counts.size * found.bin_ps
    middle, step = strongest / length, 0.5 / length
    at = found.middle_ps()
    while step > 1e-7 * middle:  # a single maximum within half a line to either side
        trials = middle + step * np.linspace(-1, 1, 9)
        waves = [abs(counts @ np.exp(-2j * np.pi * trial * at)) for trial in trials]
        middle, step = trials[int(np.argmax(waves))], step / 3
    return float(1 / middle)


@dataclass(frozen=True, slots=True)
class _Windows:
    """Counts of equal windows in the order of time, of which ``first`` is the first's number."""

    counts: Counts
    first: int


def _require_resolved(found: Lags, period: float) -> None:
    periods = found.counts.size * found.bin_ps / period
    if period < BINS_A_PERIOD_MIN * found.bin_ps:
        raise LinkError(
            f"bins of {found.bin_ps} ps are too wide for a period of {period:.1f} ps:"
            f" at most a {BINS_A_PERIOD_MIN}th"
        )
    if periods < PERIODS_MIN:
        raise LinkError(
            f"{periods:.1f} periods of {period:.1f} ps in the histogram, at least {PERIODS_MIN}"
        )


def _phase(found: Lags, period: float) -> float:
    """Where the peaks are: the lag of one of them, by the histogram's first harmonic."""
    wave = found.counts @ np.exp(2j * np.pi * found.middle_ps() / period)
    return float(np.angle(wave) / (2 * np.pi) * period)


def _peaks(found: Lags, period: float, phase: float) -> tuple[_Windows, _Windows]:
    """The counts of all whole peaks, and of the windows that follow each of them but the last."""
    half = np.floor((found.middle_ps() - phase) / period * 2 + 0.5).astype(np.int64)
    first = int(half[0])
    sums = np.bincount(half - first, found.counts).astype(np.int64)
    halves = np.arange(first, first + sums.size)[1:-1]  # those at the ends may be cut
    sums = sums[1:-1]
    even = halves % 2 == 0
    return (
        _Windows(sums[even], int(halves[even][0]) // 2),
        _Windows(sums[~even], int(halves[~even][0]) // 2),
    )


def _outstanding(peaks: Counts) -> int:
    """The place of the one peak that differs from the others beyond chance."""
    means = (peaks.sum() - peaks) / (peaks.size - 1)
    return _most_surprising(peaks, means, FALSE_ALARM / peaks.size)


def _outstanding_delay(found: Lags, n: int) -> float:
    """The middle of what is above or below chance in the window of ``n`` bins that stands out."""
    by_chance = found.by_chance()
    sums = np.convolve(found.counts, np.ones(n, np.int64), "valid")
    means = np.convolve(by_chance, np.ones(n), "valid")
    first = _most_surprising(sums, means, FALSE_ALARM / sums.size)
    inside = slice(first, first + n)
    beyond = np.abs(found.counts - by_chance)[inside]
    return float(found.middle_ps()[inside] @ beyond / beyond.sum())


def _most_surprising(counts: Counts, means: npt.NDArray[np.float64], false_alarm: float) -> int:
    """Where a Poisson count is farthest from its mean; LinkError when chance explains it.

    Source of the bound: Chernoff, in either direction exp(-(k ln(k / m) - k + m)).
    """
    least = np.maximum(means, 1e-9)
    nats = counts * np.log(np.maximum(counts, 1e-300) / least) - counts + least
    place = int(np.argmax(nats))
    if nats[place] < -log(false_alarm):
        raise LinkError(
            f"no delay stands out: the oddest count is {counts[place]} with a mean of"
            f" {least[place]:.1f}, by chance with about {exp(-nats[place]):.2g}; name the delay"
        )
    return place


def _ratio_limits(count: int, others: int, windows: float, eps: float) -> tuple[float, float]:
    """Limits of a mean over the mean of each of ``windows`` that have ``others`` together."""
    total = count + others
    low, high = mean_at_least(count, total, eps), mean_at_most(count, total, eps)
    return windows * low / (total - low), windows * high / (total - high) if high < total else inf


def _net(ratio: float, background: float) -> float:
    """Source: Brouri et al., with the background's share of a side peak."""
    return (ratio - background) / (1 - background) if background < 1 else inf
