"""Time tags of both ends of a link of pairs: the cost grows with clicks, not with pairs."""

from dataclasses import dataclass

import numpy as np

from qkd_core.types.ids import Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.physics.fault_effects import PairFaults
from qkd_sim_link.physics.pairs import DETECTORS, PS_PER_S, end_of, rates
from qkd_sim_link.sampling.emission import emitted
from qkd_sim_link.sampling.records import Clocks, Tags, seen, split_basis
from qkd_sim_link.scenarios.pairs import PairScenario


@dataclass(frozen=True, slots=True)
class PairLaw:
    """Scenario and settings of one block."""

    scenario: PairScenario
    settings: PairSettings

    def expected_clicks(self) -> float:
        """The mean number of clicks of the end that has more, in a block."""
        found = rates(self.scenario, self.settings)
        return self.settings.link_s * max(found.clicks_a, found.clicks_b)


def sample_pairs(
    law: PairLaw, clocks: Clocks, seed: int, faults: PairFaults | None = None
) -> dict[Side, Tags]:
    """Both ends' tags of one block: time_ps int64[n], rising, by each end's own clock; detector.

    The same ``seed`` gives the same block. ``faults`` act before any detector is blind.
    """
    rng = np.random.default_rng(seed)
    scenario = law.scenario
    ends = {side: end_of(scenario, side) for side in Side}
    length = law.settings.link_s * PS_PER_S
    span = clocks.span_ps(length)
    light = emitted(scenario, (ends[Side.A], ends[Side.B]), span, rng)
    flips = scenario.source.key_error, scenario.source.test_error
    tags: dict[Side, Tags] = {}
    for side, end in ends.items():
        time, outcomes = light.seen_by(side)
        basis = split_basis(time.size, end.p_key, rng)
        bit = outcomes >> basis & np.uint8(1)
        if side is Side.B:  # where both photons are seen in one basis, so often they differ
            bit ^= (rng.random(bit.size) < np.choose(basis, flips)).astype(np.uint8)
        most = faults.dark_max(side) if faults else 1.0
        dark_hz = DETECTORS * end.dark_rate_hz * most
        dark = rng.uniform(*span, rng.poisson(dark_hz * (span[1] - span[0]) / PS_PER_S))
        arrived = np.concatenate((time, dark))
        detector = np.concatenate(
            (basis << np.uint8(1) | bit, rng.integers(0, DETECTORS, dark.size, dtype=np.uint8))
        )
        if faults:
            arrived, detector = faults.left(side, (arrived, detector), dark.size, rng)
        arrived += rng.normal(0.0, scenario.detector.jitter_sigma_ps, arrived.size)
        live = seen(arrived, detector, 1e3 * scenario.detector.dead_time_ns)
        tags[side] = clocks.recorded(side, arrived[live], detector[live], length)
    return tags
