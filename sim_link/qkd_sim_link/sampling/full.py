"""The oracle: every pulse is visited and every photon is followed. For tests.

It shares the keyed choices of both ends with the event sampler and nothing else: photon numbers,
routes, dark counts and the release of trapped charge are drawn one by one, gate by gate.
"""

import math

import numpy as np
from numba import njit, types

from qkd_sim_link.sampling.event import (
    BOTH,
    F64_IN2,
    I64_OUT,
    U8_OUT,
    ClickLaw,
    Clicks,
    arrival,
    record,
)
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


@njit(types.Tuple((U64, I64))(U64, F64, F64, F64, F64_IN), cache=True, nogil=True)
def follow_photons(counter, intensity, transmittance, p_1, seen):
    """Send one pulse; returns the advanced counter and the mask of detectors that see some of it.

    p_1   probability that a photon takes the way to detector 1
    seen  float64[2]: probability that either detector sees one that comes

    Source of the photon number: Knuth's product of uniforms, which is Poisson.
    """
    hit = 0
    level = math.exp(-intensity)
    counter += GOLDEN
    product = unit(mix64(counter))
    while product > level:
        counter += GOLDEN
        if unit(mix64(counter)) < transmittance:
            counter += GOLDEN + GOLDEN
            way = 1 if unit(mix64(counter - GOLDEN)) < p_1 else 0
            if unit(mix64(counter)) < seen[way]:
                hit |= 1 << way
        counter += GOLDEN
        product *= unit(mix64(counter))
    return counter, hit


@njit(F64(I64, I64, F64), cache=True, nogil=True)
def way_to_1(choice, basis, misalignment):
    """The probability that a photon of Alice's ``choice`` takes the way to detector 1."""
    if (choice >> 1 & 1) != basis:
        return 0.5
    return misalignment if choice & 1 == 0 else 1.0 - misalignment


@njit(
    I64(I64, U64_IN, U64_IN, U64, F64_IN, I64, F64_IN2, I64, F64_IN, F64, F64, I64_OUT, U8_OUT),
    cache=True,
    nogil=True,
)
def visit_every_pulse(  # noqa: PLR0913, PLR0917 - a kernel takes arrays and scalars, no object
    n_pulses,
    keys,
    cells,
    key_basis_below,
    intensities,
    n_gates,
    course,
    n_dead,
    trap,
    period_ps,
    jitter_ps,
    time_ps,
    detector,
):
    """Fill ``time_ps`` and ``detector``; returns how many clicks there are, -1 if too many.

    course  float64[segments, 7]: transmittance, misalignment of both bases, dark probability and
            efficiency of both detectors, as `Course` has them, in segments of ``n_gates``
    trap    float64[2]: probability that a click fills the trap, and of release per live gate
    """
    counter = keys[EVENTS]
    n = live = 0
    trapped_in = np.int64(0)
    trapped = False
    for slot in range(n_pulses):
        if slot < live:
            continue
        choice = alice_choice(keys[ALICE], cells, slot)
        basis = bob_basis(keys[BOB], key_basis_below, slot)
        now = course[slot // n_gates]
        intensity = intensities[choice >> 2]
        p_1 = way_to_1(choice, basis, now[1 + (choice >> 1 & 1)])
        counter, mask = follow_photons(counter, intensity, now[0], p_1, now[5:])
        for bit in range(2):
            counter += GOLDEN
            if unit(mix64(counter)) < now[3 + bit]:
                mask |= 1 << bit
        counter += GOLDEN
        if trapped and unit(mix64(counter)) < trap[1]:
            mask |= 1 << trapped_in
        if mask == 0:
            continue
        if n + 2 > time_ps.size:
            return -1
        for bit in range(2):
            if mask >> bit & 1:
                counter, t = arrival(counter, slot, period_ps, jitter_ps)
                n = record(time_ps, detector, n, t, basis << 1 | bit)
        live = slot + n_dead
        counter += GOLDEN + GOLDEN
        trapped = unit(mix64(counter)) < trap[0]
        coin = np.int64(2.0 * unit(mix64(counter - GOLDEN)))
        trapped_in = coin if mask == BOTH else np.int64(mask >> 1)
    return n


def sample_full(law: ClickLaw, seed: int) -> Clicks:
    """The clicks of one block by the same law as `event.sample`, by another road.

    time_ps int64[n], rising; detector uint8[n], basis << 1 | bit. Time O(n_pulses).
    """
    settings, hold_off, course = law.settings, law.hold_off, law.course
    parts = (course.transmittance, course.misalignment, course.dark, course.efficiency)
    room = 2 * settings.n_pulses // hold_off.n_dead + 2
    time_ps, detector = np.empty(room, np.int64), np.empty(room, np.uint8)
    n = visit_every_pulse(
        settings.n_pulses,
        block_keys(seed),
        alice_cells(settings),
        bob_threshold(settings),
        np.array(settings.intensities),
        course.n_gates,
        np.column_stack(parts),
        hold_off.n_dead,
        np.array([hold_off.afterpulse, -math.expm1(-1 / hold_off.decay_gates)]),
        1e12 / settings.clock_hz,
        law.jitter_sigma_ps,
        time_ps,
        detector,
    )
    return time_ps[:n], detector[:n]
