"""What an end's detectors see of the clicks that come, and what its clock says of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qkd_core.types.ids import Side
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

    def span_ps(self, length_ps: float) -> tuple[float, float]:
        """From when to when either end records, by Alice's clock from her beginning."""
        return min(0, self.skew_ps), max(0, self.skew_ps) + length_ps

    def recorded(self, side: Side, time: Instants, detector: Flags, length_ps: float) -> Tags:
        """What of the clicks, rising in time, is in the end's record, by its own clock."""
        first = 0 if side is Side.A else self.skew_ps
        within = (time >= first) & (time < first + length_ps)
        time, detector = time[within], detector[within]
        if side is Side.A:
            return self.alice_ps + np.rint(time).astype(np.int64), detector
        local = time + time * self.drift
        return self.bob_ps + np.rint(local).astype(np.int64), detector


def seen(time: Instants, detector: Flags, dead_ps: float) -> npt.NDArray[np.int64]:
    """The places of the clicks that no blind detector misses, in the order of time."""
    order = np.argsort(time)
    live = np.empty(time.size, np.uint8)
    see(time[order], detector[order], dead_ps, live)
    kept: npt.NDArray[np.int64] = order[live.astype(bool)]
    return kept


def split_basis(n: int, p_key: float, rng: np.random.Generator) -> Flags:
    """The way of ``n`` photons at a passive splitter: 0 is the key basis."""
    return (rng.random(n) >= p_key).astype(np.uint8)


def random_detector(basis: Flags, rng: np.random.Generator) -> Flags:
    """A random bit in each basis: basis << 1 | bit."""
    return basis << np.uint8(1) | rng.integers(0, 2, basis.size, dtype=np.uint8)
