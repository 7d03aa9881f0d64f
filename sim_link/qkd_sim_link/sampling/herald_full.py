"""The oracle of chains of repeaters: every attempt is played and every photon is followed.

For tests. It shares with `sampling.herald` the arrays that it fills and nothing else: emission,
loss, clicks, dark counts, the errors of each photon and of each memory are drawn one by one.
"""

import math

import numpy as np
from numba import njit, types

from qkd_sim_link.physics.chain import Chain
from qkd_sim_link.physics.fibre import fibre_transmittance
from qkd_sim_link.physics.heralding import synchronised
from qkd_sim_link.sampling.generator import (
    EVENTS,
    F64,
    F64_IN,
    GOLDEN,
    I64,
    I64_IN,
    U64,
    block_keys,
    mix64,
    unit,
)
from qkd_sim_link.sampling.herald import (
    FAILED,
    I64_TABLE,
    PHASE,
    U8_OUT,
    Heralds,
    Pairs,
    Timing,
    announced,
    ordered_pairs,
    shape_of,
)
from qkd_sim_link.scenarios.repeaters import ONE_PHOTON, RepeaterScenario

NOTHING, FALSE = -1, -2  # what a try gives; else the error, x | z << 1, that the state itself has
X, BOTH = 1, 3
DRAW = types.Tuple((U64, F64))
TRIED = types.Tuple((U64, I64))


@njit(DRAW(U64), cache=True, nogil=True)
def draw(counter):
    """The advanced counter, and a number in [0, 1)."""
    counter += GOLDEN
    return counter, unit(mix64(counter))


@njit(TRIED(U64, I64), cache=True, nogil=True)
def pick(counter, n):
    """One of n numbers from 0, each as likely."""
    counter, u = draw(counter)
    return counter, np.int64(u * n)


@njit(TRIED(U64, F64), cache=True, nogil=True)
def damage(counter, fidelity):
    """One of the three Pauli errors with probability 1 - fidelity, else none."""
    counter, u = draw(counter)
    if u < fidelity:
        return counter, 0
    counter, which = pick(counter, 3)
    return counter, 1 + which


@njit(TRIED(U64, I64, I64, F64), cache=True, nogil=True)
def with_dark_counts(counter, lit, n_detectors, dark):
    """The set of detectors that click, where light reaches those of the set ``lit``."""
    for detector in range(n_detectors):
        counter, u = draw(counter)
        if u < dark:
            lit |= 1 << detector
    return counter, lit


@njit(TRIED(U64, F64, F64), cache=True, nogil=True)
def try_two_photons(counter, efficiency, dark):
    """A Bell measurement with four detectors, port << 1 | polarisation: NOTHING, FALSE or 0."""
    counter, first = draw(counter)
    counter, second = draw(counter)
    lit = np.int64(0)
    arrive, both = first < efficiency or second < efficiency, max(first, second) < efficiency
    counter, state = pick(counter, 4)
    told = both and state in (0, 1)
    if told:
        counter, port = pick(counter, 2)
        if state == 0:  # the same port, both polarisations
            lit = 3 << 2 * port
        else:  # one of each, at different ports
            lit = 1 << 2 * port | 2 << 2 * (1 - port)
    elif arrive:  # two that are not told apart leave together
        counter, detector = pick(counter, 4)
        lit = np.int64(1) << detector
    counter, clicks = with_dark_counts(counter, lit, 4, dark)
    for one in range(0, 4, 2):  # one click of each polarisation, and no other
        for other in range(1, 4, 2):
            if clicks == (1 << one | 1 << other):
                return counter, 0 if told else FALSE
    return counter, NOTHING


@njit(TRIED(U64, F64, F64, F64), cache=True, nogil=True)
def try_one_photon(counter, bright, arrival, dark):
    """Two detectors, one of which must click alone: NOTHING, FALSE or an error."""
    n_bright = n_arrived = 0
    for _ in range(2):
        counter, u = draw(counter)
        if u < bright:
            n_bright += 1
            counter, u = draw(counter)
            n_arrived += u < arrival
    lit = np.int64(0)
    if n_arrived:
        counter, detector = pick(counter, 2)
        lit = np.int64(1) << detector
    counter, clicks = with_dark_counts(counter, lit, 2, dark)
    if clicks not in (1, 2):
        return counter, NOTHING
    if n_arrived == 0:
        return counter, FALSE
    if n_bright == 1:
        return counter, 0
    counter, also_phase = pick(counter, 2)
    return counter, BOTH if also_phase else X


@njit(TRIED(U64, I64, F64), cache=True, nogil=True)
def after_station(counter, state, visibility):
    """The error of what a station announced, whose photons interfered with ``visibility``."""
    counter, u = draw(counter)
    if state == FALSE or u >= visibility:  # of a Werner state nothing at all, else perfect
        counter, state = pick(counter, 4)
    return counter, state


@njit(
    I64(I64, I64, U64, I64_IN, F64_IN, I64_TABLE, U8_OUT, I64_TABLE),
    cache=True,
    nogil=True,
)
def play_every_attempt(  # noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917 - as `play_rounds`
    n_attempts, n_slots, key, shape, physics, pairs, states, heralds
):
    """As `play_rounds`, but attempt by attempt; returns n_pairs << 32 | n_heralds.

    physics  float64[8]: bright (0: two photons), arrival, efficiency of a swap, dark, fidelity
             of a node, visibility in a link and at a repeater, -ln of what an attempt leaves of
             a memory
    """
    n_links, cutoff, up, out = shape[0], shape[1], shape[2], shape[3]
    bright, arrival, efficiency, dark, fidelity = physics[:5]
    in_link, at_repeater, decay = physics[5:8]
    ready = np.empty(n_links, np.int64)
    n = n_heralds = 0
    counter = key
    for slot in range(n_slots):
        attempt = np.int64(0)
        while attempt < n_attempts:
            ready[:] = -1
            frame = error = np.int64(0)
            n_ready = 0
            first = np.int64(-1)
            while attempt < n_attempts:
                for link in range(n_links):
                    if ready[link] >= 0:
                        continue
                    if bright > 0.0:
                        counter, state = try_one_photon(counter, bright, arrival, dark)
                    else:
                        counter, state = try_two_photons(counter, arrival, dark)
                    if state == NOTHING:
                        continue
                    counter, state = after_station(counter, state, in_link)
                    error ^= state
                    for _ in range(2):
                        counter, state = damage(counter, fidelity)
                        error ^= state
                    counter, outcome = pick(counter, 2)
                    frame ^= 1 | outcome << 1
                    ready[link], n_ready = attempt, n_ready + 1
                    first = attempt if first < 0 else first
                    heralds[n_heralds, :] = attempt, slot, 2 * link + 1, outcome
                    n_heralds += 1
                attempt += 1
                if n_ready == n_links or (first >= 0 and attempt - first > cutoff):
                    break
            last = attempt - 1
            attempt += up + out
            if attempt > n_attempts or n_ready < n_links:
                continue
            joined = True
            for link in range(1, n_links):
                counter, state = try_two_photons(counter, efficiency, dark)
                counter, outcome = pick(counter, 2)
                if state == NOTHING:
                    joined, outcome = False, np.int64(FAILED)
                else:
                    counter, state = after_station(counter, state, at_repeater)
                    error ^= state
                    frame ^= 1 | outcome << 1
                heralds[n_heralds, :] = last + up, slot, 2 * link, outcome
                n_heralds += 1
            if not joined:
                continue
            waited = np.int64(0)
            for memory in range(2 * n_links):
                at_end = memory in (0, 2 * n_links - 1)
                kept = last - ready[memory // 2] + 1 + up + (out if at_end else 0)
                waited += kept
                counter, u = draw(counter)
                if u < (1.0 - math.exp(-kept * decay)) / 2.0:
                    error ^= PHASE
            pairs[n, 0], pairs[n, 1], pairs[n, 2] = attempt, slot, waited
            states[n] = frame | error << 2
            n += 1
    return n << 32 | n_heralds


def play_full(scenario: RepeaterScenario, n_attempts: int, seed: int) -> tuple[Pairs, Heralds]:
    """As `herald.play`, by the oracle."""
    chain, node, station = Chain.of(scenario), scenario.node, scenario.station
    physics = (
        node.bright if scenario.chain.scheme == ONE_PHOTON else 0.0,
        node.emission * fibre_transmittance(scenario.fibre) * station.efficiency,
        node.retrieval * station.efficiency,
        station.dark,
        node.fidelity,
        synchronised(station.visibility, station.apart_ps, station.coherence_ps),
        station.visibility,
        -math.log(chain.by_attempt),
    )
    room = chain.slots * n_attempts
    pairs, states = np.empty((room, 3), np.int64), np.empty(room, np.uint8)
    heralds = np.empty((2 * chain.n_links * room, 4), np.int64)
    n = play_every_attempt(
        n_attempts,
        chain.slots,
        block_keys(seed)[EVENTS],
        shape_of(chain, n_attempts),
        np.array(physics),
        pairs,
        states,
        heralds,
    )
    n, n_heralds = n >> 32, n & 0xFFFFFFFF
    return (
        ordered_pairs(pairs[:n], states[:n]),
        announced(heralds[:n_heralds], Timing.of(scenario)),
    )
