"""The event sampler: it visits only pulses that may click, so its cost grows with clicks.

In a segment of the link's course a live gate clicks with probability at most p_max, whatever Alice
and Bob chose. Candidates come at geometric gaps of p_max; the choices of both ends at a candidate
are keyed hashes of its index; it is kept with probability p / p_max. Dead gates are jumped over,
and beyond the end of a segment candidates are drawn anew with the next p_max: both are exact
because the gaps have no memory. An afterpulse due before the candidate clicks first and the
candidate is drawn anew.
Source: thinning, Lewis and Shedler, Naval Research Logistics 26, 403 (1979).
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from numba import njit, types

from qkd_core.types.plans import DecoySettings
from qkd_sim_link.physics.course import Course, steady_course
from qkd_sim_link.physics.dead_time import HoldOff
from qkd_sim_link.physics.decoy_bb84 import Gates, tired_course
from qkd_sim_link.sampling.generator import (
    ALICE,
    BOB,
    EVENTS,
    F64,
    F64_IN,
    GOLDEN,
    I64,
    U64,
    U64_IN,
    block_keys,
    mix64,
    unit,
)
from qkd_sim_link.sampling.pulses import alice_cells, alice_choice, bob_basis, bob_threshold
from qkd_sim_link.sampling.ziggurat import next_exponential, next_normal
from qkd_sim_link.scenarios.pulses import Scenario

Clicks = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]
I64_OUT = types.int64[::1]
U8_OUT = types.uint8[::1]
F64_IN2 = types.Array(types.float64, 2, "C", readonly=True)
BOTH = 3  # the mask of a double click
_ONE = np.uint64(1)
_FAINTEST, _SURE = 1e-300, 1 - 1e-16  # stand for 0 and 1 where the logarithm needs a number


@njit(I64(I64, F64_IN, F64), cache=True, nogil=True)
def click_mask(row, click, place):
    """The detectors that click: bit d for detector d; 0 for none.

    click   float64[n], at row + d: click probability of detector d
    place   uniform over [0, p_max); one number decides both detectors
    """
    p_0, p_1 = click[row], click[row + 1]
    if place < p_0:
        return BOTH if place < p_0 * p_1 else 1
    return 2 if place < p_0 + (1.0 - p_0) * p_1 else 0


@njit(types.Tuple((U64, I64))(U64, F64, F64, F64), cache=True, nogil=True)
def arrival(counter, slot, period_ps, jitter_ps):
    """The advanced counter, and when a click of ``slot`` is seen."""
    counter, late = next_normal(counter)
    return counter, np.int64(math.floor((slot + 0.5) * period_ps + late * jitter_ps + 0.5))


@njit(I64(I64_OUT, U8_OUT, I64, I64, I64), cache=True, nogil=True)
def record(time_ps, detector, n, t, d):
    """Put click (t, d) after the ``n`` clicks so far, in time order; returns n + 1."""
    place = n
    while place > 0 and time_ps[place - 1] > t:
        time_ps[place], detector[place] = time_ps[place - 1], detector[place - 1]
        place -= 1
    time_ps[place], detector[place] = t, d
    return n + 1


@njit(types.Tuple((U64, I64))(U64, I64, F64, I64), cache=True, nogil=True)
def next_candidate(counter, live, mean_gap, end):
    """The advanced counter, and the first candidate from gate ``live``; ``end`` if none is before.

    mean_gap  of an exponential law whose whole part is the geometric one
    """
    counter, gap = next_exponential(counter)
    gap *= mean_gap
    return counter, live + np.int64(gap) if gap < end - live else end


@njit(types.Tuple((U64, F64, I64))(U64, I64, F64, F64), cache=True, nogil=True)
def next_afterpulse(counter, mask, probability, decay_gates):
    """The advanced counter, the afterpulse's delay after the dead time, and its detector.

    The delay is infinite when none follows the click of the detectors ``mask``.
    """
    if probability <= 0.0:
        return counter, math.inf, 0
    counter += GOLDEN
    word = mix64(counter)
    if unit(word) >= probability:
        return counter, math.inf, 0
    detector = np.int64(word & _ONE) if mask == BOTH else np.int64(mask >> 1)
    counter, delay = next_exponential(counter)
    return counter, delay * decay_gates, detector


@njit(
    I64(I64, U64_IN, U64_IN, U64, I64, F64_IN, F64_IN2, I64, F64, F64, F64, F64, I64_OUT, U8_OUT),
    cache=True,
    nogil=True,
)
def sample_events(  # noqa: PLR0913, PLR0917 - a kernel takes arrays and scalars, no object
    n_pulses,
    keys,
    cells,
    key_basis_below,
    n_gates,
    click,
    candidates,
    n_dead,
    afterpulse,
    decay_gates,
    period_ps,
    jitter_ps,
    time_ps,
    detector,
):
    """Fill ``time_ps`` and ``detector`` with the clicks of one block; returns how many.

    Returns -1 when the arrays are too short. The block starts with live detectors. A pulse
    arrives in the middle of its slot. After a double click either detector, with equal chance,
    keeps the memory that an afterpulse needs.

    keys             uint64[3] of `block_keys`
    cells, key_basis_below  as `alice_choice` and `bob_basis` take them
    n_gates          of a segment
    click            float64[segments * 16 n] of n intensities: `ClickLaw.click`, flat
    candidates       float64[segments, 2]: their probability p_max, and the mean gap of
                     `next_candidate`
    n_dead, afterpulse, decay_gates  as `HoldOff` has them
    time_ps          int64[m], rising
    detector         uint8[m], basis << 1 | bit
    """
    counter = keys[EVENTS]
    live = n = segment = 0
    p_max, mean_gap = candidates[0, 0], candidates[0, 1]
    segment_end, segment_cells = min(n_gates, n_pulses), 8 * cells.size
    due_detector = np.int64(0)
    due = n_pulses  # slot of the afterpulse; n_pulses means none
    while live < n_pulses:
        while live >= segment_end:
            segment += 1
            p_max, mean_gap = candidates[segment, 0], candidates[segment, 1]
            segment_end = min(segment_end + n_gates, n_pulses)
        counter, candidate = next_candidate(counter, live, mean_gap, segment_end)
        slot = min(candidate, due)
        if slot >= segment_end:
            live = segment_end
            continue
        basis = bob_basis(keys[BOB], key_basis_below, slot)
        mask = np.int64(0)
        if slot == candidate:
            counter += GOLDEN
            row = segment * segment_cells + 4 * alice_choice(keys[ALICE], cells, slot) + 2 * basis
            mask = click_mask(row, click, unit(mix64(counter)) * p_max)
        if slot == due:
            mask |= 1 << due_detector
        if mask == 0:
            live = slot + 1
            continue
        if n + 2 > time_ps.size:
            return -1
        counter, t = arrival(counter, slot, period_ps, jitter_ps)
        n = record(time_ps, detector, n, t, basis << 1 | mask >> 1 & (mask != BOTH))
        if mask == BOTH:
            counter, t = arrival(counter, slot, period_ps, jitter_ps)
            n = record(time_ps, detector, n, t, basis << 1 | 1)
        live = slot + n_dead
        counter, delay, due_detector = next_afterpulse(counter, mask, afterpulse, decay_gates)
        due = live + np.int64(delay) if delay < n_pulses else n_pulses
    return n


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClickLaw:
    """Scenario, settings and course of one block as the samplers take them.

    click  float64[segment, 4 n, 2, 2]: `Gates.click` of the course
    """

    settings: DecoySettings
    course: Course
    hold_off: HoldOff
    jitter_sigma_ps: float
    click: npt.NDArray[np.float64] = field(repr=False)

    @staticmethod
    def of(scenario: Scenario, settings: DecoySettings, course: Course | None = None) -> "ClickLaw":
        """The law of a block armed with ``settings``; ``course`` None means the mean one."""
        course = tired_course(course or steady_course(scenario, settings), scenario, settings)
        return ClickLaw(
            settings=settings,
            course=course,
            hold_off=HoldOff.of(scenario.detector, settings.clock_hz),
            jitter_sigma_ps=scenario.detector.jitter_sigma_ps,
            click=Gates(course, settings).click(),
        )

    @property
    def p_max(self) -> npt.NDArray[np.float64]:
        """float64[segment]: the largest click probability of both ends' settings, no afterpulse."""
        p_0, p_1 = np.moveaxis(self.click, -1, 0)
        largest: npt.NDArray[np.float64] = np.max(1 - (1 - p_0) * (1 - p_1), axis=(1, 2))
        return largest

    def expected_clicks(self) -> float:
        """The mean number of clicked slots in a block, up to its first and last gates."""
        steady, _ = Gates(self.course, self.settings).steady(self.hold_off)
        return float(np.sum(self.course.gates / steady.mean))


def sample(law: ClickLaw, seed: int) -> Clicks:
    """All clicks of one block: time_ps int64[n], rising; detector uint8[n], basis << 1 | bit.

    Times count from the beginning of the block's first slot. The same ``seed`` gives the same
    block; `settings_at` with it gives Alice's part.
    """
    expected = law.expected_clicks()
    p_max = law.p_max
    mean_gap = -1 / np.log1p(-np.clip(p_max, _FAINTEST, _SURE))
    candidates = np.column_stack((p_max, mean_gap))
    room = int(1.05 * expected + 10 * math.sqrt(expected)) + 64  # 5 % for double clicks
    while True:
        time_ps, detector = np.empty(room, np.int64), np.empty(room, np.uint8)
        n = sample_events(
            law.settings.n_pulses,
            block_keys(seed),
            alice_cells(law.settings),
            bob_threshold(law.settings),
            law.course.n_gates,
            law.click.ravel(),
            candidates,
            law.hold_off.n_dead,
            law.hold_off.afterpulse,
            law.hold_off.decay_gates,
            1e12 / law.settings.clock_hz,
            law.jitter_sigma_ps,
            time_ps,
            detector,
        )
        if n >= 0:
            return time_ps[:n], detector[:n]
        room *= 2
