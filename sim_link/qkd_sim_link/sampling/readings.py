"""Time tags of both ends of a chain of repeaters: of the readings that the heralds announce.

The ends read a pair out at a moment that follows from the heralds alone, and keep only the clicks
in a gate around it. What the stations announce says nothing of the ends' outcomes: whichever of
its states a Bell measurement finds, each end's outcome stays random to all others.

*Decision: Bob's device corrects.* The announced outcomes say which Pauli error, the frame, the
pair has beside what nobody knows. Bob's device, which alone knows his basis, flips his bit where
the frame shows in it; Alice's does nothing. It takes his own click and the public announcements,
so no end learns of the other's bits, and the engine meets a pair as any source gives it. A frame
that were announced wrongly is an error like others, and is counted with them.
Source: Briegel et al., PRL 81, 5932 (1998); for the frame: Knill, Nature 434, 39 (2005).
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from qkd_core.types.ids import Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.physics.chain import DETECTORS, Chain, Reading
from qkd_sim_link.physics.fault_effects import PairFaults
from qkd_sim_link.sampling.herald import PS_PER_S, Pairs, Timing, play
from qkd_sim_link.sampling.records import (
    Clocks,
    Flags,
    Instants,
    Tags,
    random_detector,
    seen,
    split_basis,
)
from qkd_sim_link.scenarios.repeaters import RepeaterScenario

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RepeaterLaw:
    """Scenario and settings of one block."""

    scenario: RepeaterScenario
    settings: PairSettings

    def expected_clicks(self) -> float:
        """The mean number of clicks of an end in a block."""
        reading, rate = Reading.of(self.scenario), Chain.of(self.scenario).rate_hz
        return self.settings.link_s * rate * (reading.efficiency + reading.noise)


def sample_repeater(
    law: RepeaterLaw, clocks: Clocks, seed: int, faults: PairFaults | None = None
) -> dict[Side, Tags]:
    """Both ends' tags of one block, as `sampling.pairs.sample_pairs` gives them.

    The same ``seed`` gives the same block. Memories are empty when it begins. ``faults``: of the
    ends, as there.
    """
    scenario, length = law.scenario, law.settings.link_s * PS_PER_S
    begin, end = clocks.span_ps(length)
    timing = Timing.of(scenario)
    pairs = play(scenario, ceil((end - begin) / timing.attempt_ps), seed).pairs
    moment = begin + timing.begins(pairs.attempt, pairs.slot)
    rng = np.random.default_rng(seed)
    tags: dict[Side, Tags] = {}
    for side, met in zip(Side, outcomes(pairs, scenario, rng), strict=True):
        come = clicks(moment, met, scenario, rng, faults.dark_max(side) if faults else 1.0)
        time, detector = come.time, come.detector
        if side is Side.B:
            detector = corrected(detector, pairs.frame[come.reading])
        if faults:
            time, detector = faults.left(side, (time, detector), come.n_dark, rng)
        live = seen(time, detector, 1e3 * scenario.detector.dead_time_ns)
        tags[side] = clocks.recorded(side, time[live], detector[live], length)
    return tags


def corrected(detector: Flags, frame: Flags) -> Flags:
    """Bob's detectors after the announced correction of each of his clicks.

    detector  uint8[n], basis << 1 | bit
    frame     uint8[n], x | z << 1, of the reading that a click belongs to: x flips bits of the
              key basis, z those of the test basis
    """
    in_test = detector >> np.uint8(1)
    return detector ^ (frame >> in_test & np.uint8(1))


def outcomes(
    pairs: Pairs, scenario: RepeaterScenario, rng: np.random.Generator
) -> tuple[Flags, Flags]:
    """The detectors that the photons of both ends' memories would meet."""
    n, p_key = pairs.frame.size, scenario.receiver.p_key_basis
    basis_a, basis_b = split_basis(n, p_key, rng), split_basis(n, p_key, rng)
    in_a, in_b = random_detector(basis_a, rng), random_detector(basis_b, rng)
    differs = (pairs.frame ^ pairs.error) >> basis_a & np.uint8(1)
    return in_a, np.where(basis_a == basis_b, in_a ^ differs, in_b)


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """What would click at one end, in no order, if no detector were blind.

    reading   int64[n]: which reading each belongs to
    time      float64[n], ps
    detector  uint8[n], basis << 1 | bit
    n_dark    so many of them, the last ones, are dark counts
    """

    reading: Places
    time: Instants
    detector: Flags
    n_dark: int


def clicks(
    moment: Instants,
    met: Flags,
    scenario: RepeaterScenario,
    rng: np.random.Generator,
    dark_factor: float = 1.0,
) -> Clicks:
    """One end's clicks in its gates.

    moment  float64[n]: when the gate of each reading is in its middle
    met     uint8[n]: the detector that the memory's photon meets, if it arrives
    """
    gate_ps, p_key = 1e3 * scenario.receiver.gate_ns, scenario.receiver.p_key_basis
    expected, n = Reading.of(scenario), moment.size
    late = rng.normal(0.0, scenario.detector.jitter_sigma_ps, n)
    arrive = rng.random(n) < expected.efficiency
    lit = np.flatnonzero(arrive & (np.abs(late) <= gate_ps / 2))
    light = rng.integers(0, max(1, n), rng.poisson(n * expected.light))
    dark = rng.integers(0, max(1, n), rng.poisson(n * expected.dark * dark_factor))
    reading = np.concatenate((lit, light, dark))
    within = rng.uniform(-gate_ps / 2, gate_ps / 2, light.size + dark.size)
    detector = (
        met[lit],
        random_detector(split_basis(light.size, p_key, rng), rng),
        rng.integers(0, DETECTORS, dark.size, dtype=np.uint8),
    )
    time = moment[reading] + np.concatenate((late[lit], within))
    return Clicks(reading, time, np.concatenate(detector), dark.size)
