"""What faults do to the optics, the detectors and Bob's clock, at each moment.

Where several act on one thing their factors are multiplied, so their order does not matter.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import numpy.typing as npt

from qkd_core.types.ids import Side
from qkd_core.types.plans import DecoySettings
from qkd_sim_link.physics.course import SEGMENTS_MAX, Course
from qkd_sim_link.physics.fibre import db_transmittance
from qkd_sim_link.scenarios.fault_kinds import ALL
from qkd_sim_link.scenarios.faults import Fault

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.uint8]
PULSE_DETECTORS, PAIR_DETECTORS = 2, 4
DAY_S = 86_400.0
WINDOW_S = 1.0  # the bursts of each window have random numbers of their own
WALK_STEP_S = 0.1  # of a clock without its reference
STEPS = 256  # segments of a block that something changes in
PER_BURST = 4  # segments
_BURSTS, _WALK = 6, 7  # which numbers of a seed are theirs


@dataclass(frozen=True, slots=True, eq=False)
class Strain:
    """Factors on what a link has, at n moments and of d detectors; each begins as all ones.

    transmittance  float64[n], 0 to 1
    efficiency     float64[n, d], 0 to 1
    dark           float64[n, d], 0 or above: on the mean number of dark counts
    flips          float64[n, 2], of photons in the key basis and in the test basis: 0 to 1/2
    """

    transmittance: Floats
    efficiency: Floats
    dark: Floats
    flips: Floats

    @staticmethod
    def none(n: int, n_detectors: int) -> "Strain":
        each = (n, n_detectors)
        return Strain(np.ones(n), np.ones(each), np.ones(each), np.zeros((n, 2)))


def strain(
    faults: Iterable[Fault], side: Side, at_s: Floats, n_detectors: int, seed: int
) -> Strain:
    """What ``faults`` do to the light and the detectors of one site at the link times ``at_s``."""
    found = Strain.none(at_s.size, n_detectors)
    for fault in faults:
        if fault.kind in _STRAINS and fault.at(side):
            now = np.flatnonzero((at_s >= fault.start_s) & (at_s < fault.end_s))
            _STRAINS[fault.kind](_Acting(fault, found, now, at_s[now], seed))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Acting:
    """One fault at the moments when it acts: ``now`` are their places, ``at_s`` their times."""

    fault: Fault
    on: Strain
    now: npt.NDArray[np.int64]
    at_s: Floats
    seed: int

    @property
    def since_s(self) -> Floats:
        return self.at_s - self.fault.start_s

    def scale_detectors(self, values: Floats, factor: Floats | float) -> None:
        """``factor``: a number, or float64[n] over the moments."""
        which = self.fault.values.get("detector", ALL)
        for detector in range(values.shape[1]) if which == ALL else (int(which),):
            values[self.now, detector] *= factor


def _loss_step(acting: _Acting) -> None:
    acting.on.transmittance[acting.now] *= db_transmittance(acting.fault.value("db"))


def _loss_ramp(acting: _Acting) -> None:
    fault = acting.fault
    part = np.minimum(acting.since_s / fault.value("ramp_s"), 1.0)
    acting.on.transmittance[acting.now] *= 10 ** (-fault.value("db") * part / 10)


def _misalignment(acting: _Acting) -> None:
    """Two flips are none: e + f - 2 e f."""
    before = acting.on.flips[acting.now]
    more = np.array([acting.fault.value("key_error"), acting.fault.value("test_error")])
    acting.on.flips[acting.now] = before + more - 2 * before * more


def _dark_rise(acting: _Acting) -> None:
    acting.scale_detectors(acting.on.dark, acting.fault.value("factor"))


def _cryostat_burst(acting: _Acting) -> None:
    within = in_bursts(acting.fault, acting.at_s, acting.seed)
    for values, name in ((acting.on.efficiency, "efficiency"), (acting.on.dark, "dark")):
        acting.scale_detectors(values, np.where(within, acting.fault.value(f"{name}_factor"), 1.0))


def _no_clicks(acting: _Acting) -> None:
    for values in (acting.on.efficiency, acting.on.dark):
        acting.scale_detectors(values, 0.0)


def _ageing(acting: _Acting) -> None:
    lost_db = acting.fault.value("db_per_day") * acting.since_s / DAY_S
    acting.scale_detectors(acting.on.efficiency, 10 ** (-lost_db / 10))


_STRAINS: Mapping[str, Callable[[_Acting], None]] = {
    "loss-step": _loss_step,
    "loss-ramp": _loss_ramp,
    "misalignment": _misalignment,
    "dark-rise": _dark_rise,
    "cryostat-burst": _cryostat_burst,
    "detector-latch": _no_clicks,
    "blinding": _no_clicks,
    "ageing": _ageing,
}
_GRADUAL = ("loss-ramp", "ageing")


def in_bursts(fault: Fault, at_s: Floats, seed: int) -> npt.NDArray[np.bool_]:
    """bool[n]: whether a burst is under way.

    They begin as a Poisson process, drawn window by window: blocks that share one see the same.
    """
    length_s = 1e-3 * fault.value("length_ms")
    window = np.floor(at_s / WINDOW_S).astype(np.int64)
    windows = np.unique(np.concatenate([window, window - 1]))  # a burst may reach into the next
    begun: list[Floats] = []
    for number in windows[windows >= 0].tolist():
        rng = np.random.default_rng((seed, _BURSTS, fault.number, number))
        n = rng.poisson(fault.value("rate_hz") * WINDOW_S)
        begun.append((number + rng.random(n)) * WINDOW_S)
    starts = np.sort(np.concatenate(begun)) if begun else np.empty(0)
    last = np.searchsorted(starts, at_s, "right") - 1
    if not starts.size:
        return np.zeros(at_s.size, np.bool_)
    found: npt.NDArray[np.bool_] = (last >= 0) & (at_s - starts[np.maximum(last, 0)] < length_s)
    return found


def strained(
    course: Course, faults: Iterable[Fault], settings: DecoySettings, begun_s: float, seed: int
) -> Course:
    """The course of a block of pulses that begins at ``begun_s``, under ``faults``.

    It is cut into segments short enough for what changes within it, at most `SEGMENTS_MAX`; a
    border of a fault moves by up to half a segment.
    """
    over_s = begun_s + settings.link_s
    acting = [f for f in faults if f.kind in _STRAINS and f.overlaps(begun_s, over_s)]
    if not acting:
        return course
    shortest_s = min(_unchanged_s(fault, begun_s, over_s) for fault in acting)
    n_gates = max(int(shortest_s * settings.clock_hz), -(-settings.n_pulses // SEGMENTS_MAX))
    course = course.refined(max(1, n_gates))
    at_s = begun_s + course.middles_s(settings.clock_hz)
    found = strain(acting, Side.B, at_s, PULSE_DETECTORS, seed)
    return course.with_(
        transmittance=found.transmittance,
        misalignment=found.flips,
        dark=found.dark,
        efficiency=found.efficiency,
    )


def _unchanged_s(fault: Fault, begun_s: float, over_s: float) -> float:
    """How long a segment of this block may be for the fault's sake."""
    length_s = over_s - begun_s
    if fault.kind == "cryostat-burst":
        return min(length_s / STEPS, 1e-3 * fault.value("length_ms") / PER_BURST)
    whole = fault.start_s <= begun_s and over_s <= fault.end_s
    return length_s if whole and fault.kind not in _GRADUAL else length_s / STEPS


@dataclass(frozen=True, slots=True)
class PairFaults:
    """What acts in a block of pairs that begins at the link time ``begun_s``."""

    faults: tuple[Fault, ...]
    begun_s: float
    seed: int

    def dark_max(self, side: Side) -> float:
        """The largest factor on the dark counts of a detector of this end."""
        factors = [
            fault.value(name)
            for fault in self.faults
            for name in ("factor", "dark_factor")
            if fault.at(side) and name in fault.values
        ]
        return prod(factors)

    def left(
        self, side: Side, clicks: tuple[Floats, Flags], n_dark: int, rng: np.random.Generator
    ) -> tuple[Floats, Flags]:
        """Those of an end's clicks that are left: when, and in which detector.

        clicks  float64[n], ps from the beginning of Alice's record, and uint8[n], basis << 1 | bit;
                the last ``n_dark`` are dark counts, drawn with `dark_max` times the link's own rate
        """
        time_ps, detector = clicks
        found = strain(self.faults, side, self.begun_s + 1e-12 * time_ps, PAIR_DETECTORS, self.seed)
        place, n_lit = np.arange(time_ps.size), time_ps.size - n_dark
        flips = found.flips[place, detector >> 1]
        flips[n_lit:] = 0.0
        detector ^= (rng.random(place.size) < flips).astype(np.uint8)
        chance = found.transmittance * found.efficiency[place, detector]
        chance[n_lit:] = found.dark[place, detector][n_lit:] / self.dark_max(side)
        kept = rng.random(place.size) < chance
        return time_ps[kept], detector[kept]


def clock_error_ps(faults: Iterable[Fault], at_s: Floats, seed: int) -> Floats:
    """By how much Bob's clock is ahead of where it would be, at each link time."""
    error = np.zeros(at_s.size)
    for fault in faults:
        if fault.kind in _CLOCKS:
            now = (at_s >= fault.start_s) & (at_s < fault.end_s)
            error[now] += _CLOCKS[fault.kind](fault, at_s[now] - fault.start_s, seed)
    return error


def _stepped(fault: Fault, since_s: Floats, _seed: int) -> Floats:
    return np.full(since_s.size, 1e3 * fault.value("step_ns"))


def _drifted(fault: Fault, since_s: Floats, _seed: int) -> Floats:
    drifted: Floats = 1e6 * fault.value("ppm") * since_s
    return drifted


def _wandered(fault: Fault, since_s: Floats, seed: int) -> Floats:
    """The rate is a Brownian motion from nothing, in steps; the error is its integral."""
    if not since_s.size:
        return since_s
    steps = np.arange(int(since_s.max() / WALK_STEP_S) + 2) * WALK_STEP_S
    rng = np.random.default_rng((seed, _WALK, fault.number))
    spread = fault.value("wander") * sqrt(WALK_STEP_S)
    rate = np.concatenate([[0.0], np.cumsum(spread * rng.standard_normal(steps.size - 1))])
    moved = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * WALK_STEP_S)])
    wandered: Floats = 1e12 * np.interp(since_s, steps, moved)
    return wandered


_CLOCKS: Mapping[str, Callable[[Fault, Floats, int], Floats]] = {
    "clock-step": _stepped,
    "clock-drift": _drifted,
    "clock-lost": _wandered,
}


def mistimed(
    clicks: tuple[npt.NDArray[np.int64], Flags],
    faults: Iterable[Fault],
    begun: tuple[float, int],
    seed: int,
) -> tuple[npt.NDArray[np.int64], Flags]:
    """Bob's clicks by a clock that is wrong: time_ps int64[n], rising, and detector uint8[n].

    begun  the link time in seconds when the block begins, and what his clock then says in ps
    """
    acting = [f for f in faults if f.kind in _CLOCKS]
    time_ps, detector = clicks
    if not acting or not time_ps.size:
        return clicks
    begun_s, begun_ps = begun
    at_s = begun_s + 1e-12 * (time_ps - begun_ps).astype(np.float64)
    error = clock_error_ps(acting, at_s, seed)
    wrong = time_ps + np.rint(error).astype(np.int64)
    order = np.argsort(wrong, kind="stable")
    return wrong[order], detector[order]
