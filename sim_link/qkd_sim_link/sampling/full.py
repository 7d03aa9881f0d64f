"""The oracle: every pulse is visited and every photon is followed. For tests.

It shares the keyed choices of both ends with the event sampler and nothing else: photon numbers,
routes, dark counts and the release of trapped charge are drawn one by one, gate by gate.
"""

import math

import numpy as np
from numba import njit, types

from qkd_sim_link.sampling.event import BOTH, I64_OUT, U8_OUT, ClickLaw, Clicks, record
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
    normal,
    unit,
)
from qkd_sim_link.sampling.pulses import alice_cells, alice_choice, bob_basis, bob_threshold


@njit(types.Tuple((U64, I64))(U64, F64, F64, F64), cache=True, nogil=True)
def follow_photons(counter, intensity, transmittance, p_other):
    """Send one pulse; returns the advanced counter and who is hit: 1 right, 2 other, 3 both.

    Source of the photon number: Knuth's product of uniforms, which is Poisson.
    """
    hit = 0
    level = math.exp(-intensity)
    counter += GOLDEN
    product = unit(mix64(counter))
    while product > level:
        counter += GOLDEN
        if unit(mix64(counter)) < transmittance:
            counter += GOLDEN
            hit |= 2 if unit(mix64(counter)) < p_other else 1
        counter += GOLDEN
        product *= unit(mix64(counter))
    return counter, hit


@njit(
    I64(I64, U64_IN, U64_IN, U64, F64_IN, F64_IN, I64, F64_IN, F64, F64, I64_OUT, U8_OUT),
    cache=True,
    nogil=True,
)
def visit_every_pulse(  # noqa: PLR0913, PLR0917 - a kernel takes arrays and scalars, no object
    n_pulses,
    keys,
    cells,
    key_basis_below,
    intensities,
    optics,
    n_dead,
    trap,
    period_ps,
    jitter_ps,
    time_ps,
    detector,
):
    """Fill ``time_ps`` and ``detector``; returns how many clicks there are, -1 if too many.

    optics  float64[3]: transmittance, misalignment, dark probability per gate
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
        p_other = optics[1] if (choice >> 1 & 1) == basis else 0.5
        counter, hit = follow_photons(counter, intensities[choice >> 2], optics[0], p_other)
        mask = hit if choice & 1 == 0 else (hit & 1) << 1 | hit >> 1
        for bit in range(2):
            counter += GOLDEN
            if unit(mix64(counter)) < optics[2]:
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
                counter += GOLDEN + GOLDEN
                late = normal(mix64(counter - GOLDEN), mix64(counter)) * jitter_ps
                t = np.int64(math.floor((slot + 0.5) * period_ps + late + 0.5))
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
    settings, hold_off, optics = law.settings, law.hold_off, law.optics
    room = 2 * settings.n_pulses // hold_off.n_dead + 2
    time_ps, detector = np.empty(room, np.int64), np.empty(room, np.uint8)
    n = visit_every_pulse(
        settings.n_pulses,
        block_keys(seed),
        alice_cells(settings),
        bob_threshold(settings),
        np.array(settings.intensities),
        np.array([optics.transmittance, optics.misalignment, optics.dark]),
        hold_off.n_dead,
        np.array([hold_off.afterpulse, -math.expm1(-1 / hold_off.decay_gates)]),
        1e12 / settings.clock_hz,
        law.jitter_sigma_ps,
        time_ps,
        detector,
    )
    return time_ps[:n], detector[:n]
