"""Time tags of both ends of a link of pairs: the cost grows with clicks, not with pairs.

A Poisson process of pairs, each photon of which arrives or not, is three independent ones: both
arrive, only Alice's does, only Bob's does. Source: Kingman, Poisson Processes, 1993, section 5.1.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qkd_core.types.ids import Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.pair_scenario import PairScenario
from qkd_sim_link.physics.pairs import DETECTORS, PS_PER_S, End, end_of, rates
from qkd_sim_link.sampling.blindness import see

Tags = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]
Flags = npt.NDArray[np.uint8]
Instants = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """What the clocks of both ends show when a block begins.

    alice_ps, bob_ps  at the moment when Alice's record begins
    drift             of Bob's clock against Alice's, during the block
    skew_ps           Bob's record begins so much later, by Alice's clock
    """

    alice_ps: int
    bob_ps: int
    drift: float
    skew_ps: int


@dataclass(frozen=True, slots=True)
class PairLaw:
    """Scenario and settings of one block."""

    scenario: PairScenario
    settings: PairSettings

    def expected_clicks(self) -> float:
        """The mean number of clicks of the end that has more, in a block."""
        found = rates(self.scenario, self.settings)
        return self.settings.link_s * max(found.clicks_a, found.clicks_b)


def sample_pairs(law: PairLaw, clocks: Clocks, seed: int) -> dict[Side, Tags]:
    """Both ends' tags of one block: time_ps int64[n], rising, by each end's own clock; detector.

    The same ``seed`` gives the same block.
    """
    rng = np.random.default_rng(seed)
    scenario = law.scenario
    a, b = (end_of(scenario, side) for side in Side)
    length = law.settings.link_s * PS_PER_S
    begin, end = min(0, clocks.skew_ps), max(0, clocks.skew_ps) + length
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
        dark = instants(DETECTORS * here.dark_rate_hz)
        arrived = np.concatenate((both, alone, dark))
        detector = np.concatenate(
            (
                outcome,
                _detector(_basis(alone.size, here, rng), rng),
                rng.integers(0, DETECTORS, dark.size, dtype=np.uint8),
            )
        )
        arrived += rng.normal(0.0, scenario.detector.jitter_sigma_ps, arrived.size)
        time, detector = _seen(arrived, detector, 1e3 * scenario.detector.dead_time_ns)
        first = 0 if side is Side.A else clocks.skew_ps
        within = (time >= first) & (time < first + length)
        time, detector = time[within], detector[within]
        if side is Side.A:
            tags[side] = (clocks.alice_ps + np.rint(time).astype(np.int64), detector)
        else:
            local = time + time * clocks.drift
            tags[side] = (clocks.bob_ps + np.rint(local).astype(np.int64), detector)
    return tags


def _outcomes(
    n: int, scenario: PairScenario, ends: tuple[End, End], rng: np.random.Generator
) -> tuple[Flags, Flags]:
    """The detectors that the two photons of ``n`` pairs meet."""
    basis_a, basis_b = (_basis(n, end, rng) for end in ends)
    in_a, in_b = _detector(basis_a, rng), _detector(basis_b, rng)
    error = np.where(basis_a == 0, scenario.source.key_error, scenario.source.test_error)
    wrong = (rng.random(n) < error).astype(np.uint8)
    return in_a, np.where(basis_a == basis_b, in_a ^ wrong, in_b)


def _basis(n: int, end: End, rng: np.random.Generator) -> Flags:
    return (rng.random(n) >= end.p_key).astype(np.uint8)


def _detector(basis: Flags, rng: np.random.Generator) -> Flags:
    """A random bit in each basis: basis << 1 | bit."""
    return basis << np.uint8(1) | rng.integers(0, 2, basis.size, dtype=np.uint8)


def _seen(time: Instants, detector: Flags, dead_ps: float) -> tuple[Instants, Flags]:
    """In the order of time, and without what a blind detector misses."""
    order = np.argsort(time)
    time, detector = time[order], detector[order]
    seen = np.empty(time.size, np.uint8)
    see(time, detector, dead_ps, seen)
    kept = seen.astype(bool)
    return time[kept], detector[kept]
