"""The pairs of a source of which a photon is seen: when they were made, and how they turn out.

Of a steady pump: a Poisson process of pairs, each photon of which is seen or not, is three
independent ones, of pairs that both ends see, only Alice, only Bob. Of pulses: the number of such
pairs in a pulse is negative binomial as that of all pairs is, with a smaller mean; pulses without
any are jumped over. What pairs of one pulse turn out to be is an urn of Polya with K balls of
either colour at first: of n pairs in one mode any number 0 to n has a given outcome, equally often.
Sources: Kingman, Poisson Processes, 1993, section 5.1; Johnson, Kemp, Kotz, Univariate Discrete
Distributions, 3rd edition, sections 5.1 and 6.2.4; `physics.pulsed_pairs`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qkd_core.types.ids import Side
from qkd_sim_link.physics.pairs import PS_PER_S, End
from qkd_sim_link.physics.pulsed_pairs import PulseLaw, law_of
from qkd_sim_link.sampling.records import Flags, Instants
from qkd_sim_link.scenarios.pairs import PairScenario, PumpPulses

BY_A, BY_B = np.uint8(1), np.uint8(2)
NOTHING = 1e-15  # of a probability
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Emitted:
    """Pairs, in any order.

    time_ps   float64[n], when they were made, by Alice's clock from the beginning of her record
    outcomes  uint8[n]: what the key basis shows | what the test basis shows << 1
    seen      uint8[n]: BY_A | BY_B
    """

    time_ps: Instants
    outcomes: Flags
    seen: Flags

    def seen_by(self, side: Side) -> tuple[Instants, Flags]:
        """Times and outcomes of the photons that come to this end."""
        here = self.seen & (BY_A if side is Side.A else BY_B) != 0
        return self.time_ps[here], self.outcomes[here]


def emitted(
    scenario: PairScenario,
    ends: tuple[End, End],
    span_ps: tuple[float, float],
    rng: np.random.Generator,
) -> Emitted:
    """All pairs of ``span_ps`` of which one end at least sees a photon."""
    eta_a, eta_b = (end.transmittance for end in ends)
    shares = eta_a * eta_b, eta_a * (1 - eta_b), eta_b * (1 - eta_a)
    if scenario.pulses is not None:
        law = law_of(scenario.pulses, scenario.source.pair_rate_hz)
        return _in_pulses(scenario.pulses, law, shares, (span_ps, rng))
    seconds = (span_ps[1] - span_ps[0]) / PS_PER_S
    of_each = [rng.poisson(scenario.source.pair_rate_hz * share * seconds) for share in shares]
    n = sum(of_each)
    return Emitted(
        rng.uniform(*span_ps, n),
        rng.integers(0, 4, n, dtype=np.uint8),
        np.repeat((BY_A | BY_B, BY_A, BY_B), of_each),
    )


def _in_pulses(
    pulses: PumpPulses,
    law: PulseLaw,
    shares: tuple[float, float, float],
    drawn: tuple[tuple[float, float], np.random.Generator],
) -> Emitted:
    """``shares``: of all pairs, those that both ends, only Alice, only Bob sees."""
    (begin, end), rng = drawn
    any_share = sum(shares)
    first = begin + pulses.period_ps * rng.random()
    n_pulses = max(0, int((end - first) // pulses.period_ps) + 1)
    lit = _places(n_pulses, 1 - law.unseen(1 - any_share), rng)
    upto = _cumulated(law.mean * any_share, 2 * law.modes)
    n_pairs = 1 + np.searchsorted(upto, rng.random(lit.size) * upto[-1], "right")
    pulse = np.repeat(lit, n_pairs)
    time = first + pulses.period_ps * pulse + rng.normal(0.0, pulses.width_sigma_ps, pulse.size)
    whose = np.searchsorted(np.cumsum(shares), rng.random(pulse.size) * any_share, "right")
    kinds = np.array([BY_A | BY_B, BY_A, BY_B, BY_B], np.uint8)  # the last for a rounded sum
    outcomes = np.zeros(pulse.size, np.uint8)
    for basis in (0, 1):
        outcomes |= _urn(n_pairs, law.modes, rng) << np.uint8(basis)
    return Emitted(time, outcomes, kinds[whose])


def _places(n: int, chance: float, rng: np.random.Generator) -> Numbers:
    """int64[m], rising: which of ``n`` trials succeed."""
    if chance <= 0 or not n:
        return np.zeros(0, np.int64)
    found: list[Numbers] = []
    last = -1
    while last < n - 1:
        mean = (n - 1 - last) * chance
        gaps = rng.geometric(chance, int(mean + 6 * mean**0.5) + 16)
        places = last + np.cumsum(np.minimum(gaps, n + 1))  # so that no sum is beyond 64 bits
        found.append(places[places < n])
        last = int(places[-1])
    return np.concatenate(found)


def _cumulated(mean: float, size: float) -> npt.NDArray[np.float64]:
    """float64[m]: how often a negative binomial number is 1, at most 2, ..., in some unit."""
    ratio = mean / (size + mean)
    weights, total = [1.0], 1.0
    while weights[-1] > NOTHING * total:
        k = len(weights)
        weights.append(weights[-1] * ratio * (k + size) / (k + 1))
        total += weights[-1]
    return np.cumsum(weights)


def _urn(n_pairs: Numbers, modes: float, rng: np.random.Generator) -> Flags:
    """uint8[sum of n_pairs]: an outcome of each pair, pulse by pulse."""
    first = np.cumsum(n_pairs) - n_pairs
    outcome = np.empty(int(n_pairs.sum()), np.uint8)
    ones = np.zeros(n_pairs.size, np.int64)
    for before in range(int(n_pairs.max(initial=0))):
        more = np.flatnonzero(n_pairs > before)
        chance = (modes + ones[more]) / (2 * modes + before)
        drawn = rng.random(more.size) < chance
        outcome[first[more] + before] = drawn
        ones[more] += drawn
    return outcome
