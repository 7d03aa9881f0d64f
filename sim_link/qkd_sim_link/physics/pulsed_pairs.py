"""Coincidences of a source of pairs that is pumped by pulses.

In each of two orthogonal polarisations the pairs of a pulse are spread over K modes, thermal each,
so that their number is negative binomial. Its generating function, with mu pairs in a pulse of both
polarisations together, is

    g(z) = (1 + (mu / 2K) (1 - z))^-K       of one polarisation
    G(z) = g(z)^2                           of both

Each photon is seen with probability eta; z = 1 - eta. An end has one event of a pulse, whatever
clicks it has of it: where both detectors of a basis click the bit is random, where detectors of
both bases do the basis is random too. Of A and B then

    P_AB = 1 - G(z_A) - G(z_B) + G(z_A z_B)                     both have an event
    P_ii = sum s_X s_Y G(z_A(X) z_B(Y)) / 4                     both in basis i
    D_ii = 2 (g(q_A q_B) g(z_A z_B) - g(q_A z_B) g(z_A q_B))    of these, like minus unlike bits

X and Y run over no detector, those of basis i (s = -1), those of the other one, all (s = -1), and
z(X) = 1 - eta p(X) is the probability that a photon meets none of them; q is that of the other
basis. A photon of B that shows the wrong bit with probability e has q' = (1 - e) q + e z in place
of q, and z' = (1 - e) z + e q. With one basis and without errors P_AB and D are the gain and the
error rate of Ma et al. for K = 1; for large K the pairs are independent, their number Poisson.
Sources: Ma, Fung, Lo, PRA 76, 012307 (2007); Christ et al., New J. Phys. 13, 033027 (2011), for
modes.
"""

from dataclasses import dataclass
from math import ceil, erf, exp, log1p, sqrt

from qkd_sim_link.scenarios.pairs import SIGMAS, PumpPulses


@dataclass(frozen=True, slots=True)
class PulseLaw:
    """Of the pairs of one pulse: ``mean`` number, and the modes K of each polarisation."""

    mean: float
    modes: float

    def unseen(self, z: float) -> float:
        """G(z): no photon is seen, where each goes unseen with probability z."""
        return self.unseen_polarisation(z) ** 2

    def unseen_polarisation(self, z: float) -> float:
        """g(z): as `unseen`, of pairs of one polarisation."""
        return exp(-self.modes * log1p(self.mean / (2 * self.modes) * (1 - z)))

    def both(self, etas: tuple[float, float]) -> float:
        """P_AB."""
        z_a, z_b = (1 - eta for eta in etas)
        return 1 - self.unseen(z_a) - self.unseen(z_b) + self.unseen(z_a * z_b)

    def in_basis(
        self, etas: tuple[float, float], shares: tuple[float, float], error: float
    ) -> tuple[float, float]:
        """P_ii, and that both have an event of the basis with unlike bits.

        shares  of the photons that go to this basis, at A and at B
        error   bits of this basis differ, of one pair
        """
        z_a, z_b = (1 - eta for eta in etas)
        q_a, q_b = (1 - eta * (1 - share) for eta, share in zip(etas, shares, strict=True))
        at_a, at_b = (
            ((1.0, 1), (1 - eta * share, -1), (1 - eta * (1 - share), 1), (1 - eta, -1))
            for eta, share in zip(etas, shares, strict=True)
        )
        n = sum(s_x * s_y * self.unseen(x * y) for x, s_x in at_a for y, s_y in at_b) / 4
        q_b, z_b = (1 - error) * q_b + error * z_b, (1 - error) * z_b + error * q_b
        g = self.unseen_polarisation
        more_alike = 2 * (g(q_a * q_b) * g(z_a * z_b) - g(q_a * z_b) * g(z_a * q_b))
        return n, (n - more_alike) / 2


def law_of(pulses: PumpPulses, pair_rate_hz: float) -> PulseLaw:
    """The law of a source that makes so many pairs in a second."""
    return PulseLaw(pair_rate_hz / pulses.rate_hz, pulses.modes)


def pulses_within(span_ps: float, pulses: PumpPulses, spread_ps: float) -> float:
    """The mean number of earlier pulses whose click is at most ``span_ps`` before one's own.

    spread_ps  standard deviation of the difference of two clicks, beside when the pulses came
    """
    last = ceil((span_ps + SIGMAS * spread_ps) / pulses.period_ps)
    return sum(within(span_ps - k * pulses.period_ps, spread_ps) for k in range(1, last + 1))


def within(ahead_ps: float, spread_ps: float) -> float:
    """The probability that a Gaussian of mean 0 is below ``ahead_ps``."""
    if not spread_ps:
        return float(ahead_ps >= 0)
    return (1 + erf(ahead_ps / (sqrt(2) * spread_ps))) / 2
