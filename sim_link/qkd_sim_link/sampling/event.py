"""The event sampler: it visits only pulses that may click, so its cost grows with clicks.

Live gates click with probability at most p_max whatever Alice and Bob chose. Candidates come at
geometric gaps of p_max; the choices of both ends at a candidate are keyed hashes of its index; it
is kept with probability p / p_max. Dead gates are jumped over, which is exact because the gaps
have no memory. An afterpulse due before the candidate clicks first and the candidate is drawn
anew. Source: thinning, Lewis and Shedler, Naval Research Logistics 26, 403 (1979).
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from numba import njit, types

from qkd_core.types.plans import DecoySettings
from qkd_sim_link.physics.dead_time import HoldOff
from qkd_sim_link.physics.decoy_bb84 import Optics, Silence
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
    exponential,
    mix64,
    normal,
    unit,
)
from qkd_sim_link.sampling.pulses import alice_cells, alice_choice, bob_basis, bob_threshold
from qkd_sim_link.scenario import Scenario

Clicks = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]
I64_OUT = types.int64[::1]
U8_OUT = types.uint8[::1]
BOTH = 3  # the mask of a double click
_ONE = np.uint64(1)


@njit(I64(I64, I64, F64_IN, F64), cache=True, nogil=True)
def click_mask(choice, basis, click, place):
    """The detectors that click: bit d for detector d; 0 for none.

    choice  Alice's: bit | basis << 1 | intensity << 2
    basis   Bob's
    click   float64[12] at 6 * equal + 2 * intensity + other: click probability of the detector of
            Alice's bit (other = 0) and of the other one, in equal or unequal bases
    place   uniform over [0, p_max); one number decides both detectors
    """
    bit = choice & 1
    row = 2 * (choice >> 2) + (6 if (choice >> 1 & 1) == basis else 0)
    p_0, p_1 = click[row + bit], click[row + 1 - bit]
    if place < p_0:
        return BOTH if place < p_0 * p_1 else 1
    return 2 if place < p_0 + (1.0 - p_0) * p_1 else 0


@njit(I64(I64_OUT, U8_OUT, I64, I64, I64), cache=True, nogil=True)
def record(time_ps, detector, n, t, d):
    """Put click (t, d) after the ``n`` clicks so far, in time order; returns n + 1."""
    place = n
    while place > 0 and time_ps[place - 1] > t:
        time_ps[place], detector[place] = time_ps[place - 1], detector[place - 1]
        place -= 1
    time_ps[place], detector[place] = t, d
    return n + 1


@njit(
    I64(I64, U64_IN, U64_IN, U64, F64_IN, F64, I64, F64, F64, F64, F64, I64_OUT, U8_OUT),
    cache=True,
    nogil=True,
)
def sample_events(  # noqa: PLR0913, PLR0917 - a kernel takes arrays and scalars, no object
    n_pulses,
    keys,
    cells,
    key_basis_below,
    click,
    p_max,
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
    click, p_max     as `click_mask` takes them; p_max is the largest probability of any click
    n_dead, afterpulse, decay_gates  as `HoldOff` has them
    time_ps          int64[m], rising
    detector         uint8[m], basis << 1 | bit
    """
    counter = keys[EVENTS]
    scale = -1.0 / math.log1p(-p_max) if p_max > 0.0 else math.inf
    live = n = 0
    due_detector = np.int64(0)
    due = n_pulses  # slot of the afterpulse; n_pulses means none
    while True:
        counter += GOLDEN
        gap = exponential(mix64(counter)) * scale
        candidate = live + np.int64(gap) if gap < n_pulses else n_pulses
        slot = min(candidate, due)
        if slot >= n_pulses:
            return n
        basis = bob_basis(keys[BOB], key_basis_below, slot)
        mask = np.int64(0)
        if slot == candidate:
            counter += GOLDEN
            choice = alice_choice(keys[ALICE], cells, slot)
            mask = click_mask(choice, basis, click, unit(mix64(counter)) * p_max)
        if slot == due:
            mask |= 1 << due_detector
        if mask == 0:
            live = slot + 1
            continue
        if n + 2 > time_ps.size:
            return -1
        for bit in range(2):
            if mask >> bit & 1:
                counter += GOLDEN + GOLDEN
                late = normal(mix64(counter - GOLDEN), mix64(counter)) * jitter_ps
                t = np.int64(math.floor((slot + 0.5) * period_ps + late + 0.5))
                n = record(time_ps, detector, n, t, basis << 1 | bit)
        live = slot + n_dead
        due = n_pulses
        counter += GOLDEN
        word = mix64(counter)
        if unit(word) < afterpulse:
            due_detector = np.int64(word & _ONE) if mask == BOTH else np.int64(mask >> 1)
            counter += GOLDEN
            delay = exponential(mix64(counter)) * decay_gates
            due = live + np.int64(delay) if delay < n_pulses else n_pulses


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClickLaw:
    """Scenario and settings of one block as `sample_events` takes them."""

    settings: DecoySettings
    optics: Optics
    hold_off: HoldOff
    jitter_sigma_ps: float
    click: npt.NDArray[np.float64] = field(repr=False)

    @staticmethod
    def of(scenario: Scenario, settings: DecoySettings) -> "ClickLaw":
        """The law of a block armed with ``settings``."""
        optics = Optics.of(scenario)
        unequal = [_pair(optics.unequal_bases(mu)) for mu in settings.intensities]
        equal = [_pair(optics.equal_bases(mu)) for mu in settings.intensities]
        return ClickLaw(
            settings=settings,
            optics=optics,
            hold_off=HoldOff.of(scenario.detector, settings.clock_hz),
            jitter_sigma_ps=scenario.detector.jitter_sigma_ps,
            click=np.array([unequal, equal]).ravel(),
        )

    @property
    def p_max(self) -> float:
        """The largest click probability over all settings of both ends, without afterpulses."""
        pairs = self.click.reshape(-1, 2)
        return float(np.max(1 - (1 - pairs[:, 0]) * (1 - pairs[:, 1])))

    def expected_clicks(self) -> float:
        """The mean number of clicked slots in a block, up to its first and last gates."""
        steady = self.hold_off.steady(self.optics.mean_gain(self.settings))
        return self.settings.n_pulses * steady.live * steady.click


def sample(law: ClickLaw, seed: int) -> Clicks:
    """All clicks of one block: time_ps int64[n], rising; detector uint8[n], basis << 1 | bit.

    Times count from the beginning of the block's first slot. The same ``seed`` gives the same
    block; `settings_at` with it gives Alice's part.
    """
    expected = law.expected_clicks()
    room = int(1.05 * expected + 10 * math.sqrt(expected)) + 64  # 5 % for double clicks
    while True:
        time_ps, detector = np.empty(room, np.int64), np.empty(room, np.uint8)
        n = sample_events(
            law.settings.n_pulses,
            block_keys(seed),
            alice_cells(law.settings),
            bob_threshold(law.settings),
            law.click,
            law.p_max,
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


def _pair(gate: Silence) -> tuple[float, float]:
    return 1 - gate.right, 1 - gate.wrong
