"""Heralded entanglement of two neighbouring nodes: photons of both meet at a station between them.

*Two photons*: each node sends one that is entangled with its memory; a Bell measurement of both
heralds, p = eta^2 / 2. The scheme of two rounds with one excitation each (Barrett and Kok, PRA 71,
060310 (2005)) is the same with early and late in place of two polarisations: four places where a
click can be, of which 4 pairs out of 6 are accepted.

*One photon*: each memory is bright with probability alpha and then sends a photon; one click of
two detectors behind a beam splitter heralds, p = 2 alpha eta. Where both were bright the outcomes
of the key basis are wrong, F = 1 - alpha for small eta. Source: Cabrillo et al., PRA 59, 1025
(1999); Humphreys et al., Nature 558, 268 (2018).

Dark counts herald pairs that are not there: F = (1 - f) F0 + f / 4. Photons that arrive dt apart
interfere less: V = V0 exp(-(dt / tc)^2), for Gaussian wave packets of coherence time tc.
Source: Legero et al., Appl. Phys. B 77, 797 (2003).
"""

from dataclasses import dataclass
from math import ceil, exp, log1p

from qkd_sim_link.physics.swapping import BellDiagonal, linear_optics, of_visibility

FIBRE_KM_PER_S = 299_792.458 / 1.468  # group index of single-mode fibre at 1550 nm, ITU-T G.652


@dataclass(frozen=True, slots=True, kw_only=True)
class Heralding:
    """One attempt of one elementary link.

    true, false  probabilities of a herald with light behind it, and of one by dark counts alone
    state        the pair behind a true one
    """

    true: float
    false: float
    state: BellDiagonal

    @property
    def success(self) -> float:
        """p, of any herald."""
        return self.true + self.false

    @property
    def false_share(self) -> float:
        """f, of the heralds."""
        return self.false / self.success if self.success else 0.0

    @property
    def pair(self) -> BellDiagonal:
        """What a herald announces."""
        return self.state.mixed(self.false_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """What the photons of two nodes meet at the station.

    arrival     probability that a photon that a node sends makes a click
    dark        probability of a dark count, of each detector in the gate
    node        the pair of a memory and its photon
    visibility  of the interference, loss of synchronisation included
    """

    arrival: float
    dark: float
    node: BellDiagonal
    visibility: float

    @property
    def swapped(self) -> BellDiagonal:
        """The pair of the memories after an ideal herald."""
        return self.node.swapped(self.node).swapped(of_visibility(self.visibility))


def two_photons(meeting: Meeting) -> Heralding:
    """Both nodes send a photon in each attempt."""
    clicks = linear_optics(meeting.arrival, meeting.dark)
    return Heralding(true=clicks.true, false=clicks.false, state=meeting.swapped)


def one_photon(meeting: Meeting, bright: float) -> Heralding:
    """Each node sends a photon with probability ``bright``, entangled with whether it does.

    One of two detectors clicks, the other does not. Two photons that arrive go to the same one.
    """
    lit, silent = bright * meeting.arrival, 1 - meeting.dark
    good = 2 * lit * (1 - bright) * silent
    both_bright = (2 * lit * bright * (1 - meeting.arrival) + lit**2) * silent
    true = good + both_bright
    wrong = both_bright / true if true else 0.0
    flipped = BellDiagonal((1 - wrong, wrong / 2, 0.0, wrong / 2))
    return Heralding(
        true=true,
        false=(1 - lit) ** 2 * 2 * meeting.dark * silent,
        state=meeting.swapped.swapped(flipped),
    )


def synchronised(visibility: float, apart_ps: float, coherence_ps: float) -> float:
    """The visibility that is left of photons that arrive ``apart_ps`` from each other."""
    return visibility * exp(-((apart_ps / coherence_ps) ** 2))


def flight_s(length_km: float) -> float:
    """How long light and news take over a fibre."""
    return length_km / FIBRE_KM_PER_S


def attempts_until(success: float, quantile: float) -> int:
    """So many attempts suffice with probability ``quantile``: about ln(1 / (1 - quantile)) / p.

    The number of attempts up to the first success is geometric.
    """
    return ceil(log1p(-quantile) / log1p(-success))
