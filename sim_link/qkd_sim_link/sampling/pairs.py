"""Time tags of both ends of a link of pairs: the cost grows with clicks, not with pairs.

A Poisson process of pairs, each photon of which arrives or not, is three independent ones: both
arrive, only Alice's does, only Bob's does. Source: Kingman, Poisson Processes, 1993, section 5.1.
"""

from dataclasses import dataclass

import numpy as np

from qkd_core.types.ids import Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.fault_effects import PairFaults
from qkd_sim_link.pair_scenario import PairScenario
from qkd_sim_link.physics.pairs import DETECTORS, PS_PER_S, End, end_of, rates
from qkd_sim_link.sampling.records import (
    Clocks,
    Flags,
    Instants,
    Tags,
    random_detector,
    seen,
    split_basis,
)


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
    a, b = (end_of(scenario, side) for side in Side)
    length = law.settings.link_s * PS_PER_S
    begin, end = clocks.span_ps(length)
    seconds = (end - begin) / PS_PER_S
    source = scenario.source

    def instants(rate_hz: float) -> Instants:
        return rng.uniform(begin, end, rng.poisson(rate_hz * seconds))

    both = instants(source.pair_rate_hz * a.transmittance * b.transmittance)
    in_a, in_b = _outcomes(both.size, scenario, (a, b), rng)
    alone_a = instants(source.pair_rate_hz * a.transmittance * (1 - b.transmittance))
    alone_b = instants(source.pair_rate_hz * b.transmittance * (1 - a.transmittance))
    tags: dict[Side, Tags] = {}
    for side, here, alone, outcome in ((Side.A, a, alone_a, in_a), (Side.B, b, alone_b, in_b)):
        most = faults.dark_max(side) if faults else 1.0
        dark = instants(DETECTORS * here.dark_rate_hz * most)
        arrived = np.concatenate((both, alone, dark))
        detector = np.concatenate(
            (
                outcome,
                random_detector(split_basis(alone.size, here.p_key, rng), rng),
                rng.integers(0, DETECTORS, dark.size, dtype=np.uint8),
            )
        )
        if faults:
            arrived, detector = faults.left(side, (arrived, detector), dark.size, rng)
        arrived += rng.normal(0.0, scenario.detector.jitter_sigma_ps, arrived.size)
        live = seen(arrived, detector, 1e3 * scenario.detector.dead_time_ns)
        tags[side] = clocks.recorded(side, arrived[live], detector[live], length)
    return tags


def _outcomes(
    n: int, scenario: PairScenario, ends: tuple[End, End], rng: np.random.Generator
) -> tuple[Flags, Flags]:
    """The detectors that the two photons of ``n`` pairs meet."""
    basis_a, basis_b = (split_basis(n, end.p_key, rng) for end in ends)
    in_a, in_b = random_detector(basis_a, rng), random_detector(basis_b, rng)
    error = np.where(basis_a == 0, scenario.source.key_error, scenario.source.test_error)
    wrong = (rng.random(n) < error).astype(np.uint8)
    return in_a, np.where(basis_a == basis_b, in_a ^ wrong, in_b)
