"""Bell-diagonal pairs, and the Bell measurement that joins two of them into one.

A Bell-diagonal pair is the wanted Bell state behind a random Pauli error. Errors are numbered
x | z << 1: x makes the outcomes of the key basis differ, z those of the test basis. Swapping
multiplies the errors of the two pairs, so their laws are convolved over exclusive or. For Werner
pairs of fidelities F1, F2 and visibilities V = (4 F - 1) / 3 that is

    F' = F1 F2 + (1 - F1)(1 - F2) / 3        V' = V1 V2

and a measurement whose photons interfere with visibility V_HOM multiplies V' by it.
Source: Briegel et al., PRL 81, 5932 (1998); Bennett et al., PRA 54, 3824 (1996).

With linear optics a Bell measurement tells two of four states, each by two clicks in detectors of
different polarisation, 4 pairs of detectors out of 6. Both photons must come, and q = eta^2 / 2.
Source: Calsamiglia and Luetkenhaus, Appl. Phys. B 72, 67 (2001).
"""

from dataclasses import dataclass

Weights = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class BellDiagonal:
    """``weights[e]``: probability of the Pauli error e = x | z << 1; the sum is 1."""

    weights: Weights

    @property
    def fidelity(self) -> float:
        """The probability of no error."""
        return self.weights[0]

    @property
    def key_error(self) -> float:
        """Outcomes of the key basis differ."""
        return self.weights[1] + self.weights[3]

    @property
    def test_error(self) -> float:
        """Outcomes of the test basis differ."""
        return self.weights[2] + self.weights[3]

    def swapped(self, other: "BellDiagonal") -> "BellDiagonal":
        """The pair that an ideal Bell measurement makes of this one and ``other``."""

        def weight(error: int) -> float:
            return sum(p * other.weights[error ^ own] for own, p in enumerate(self.weights))

        return BellDiagonal((weight(0), weight(1), weight(2), weight(3)))

    def dephased(self, kept: float) -> "BellDiagonal":
        """After the coherence between the two has shrunk to ``kept``: see `physics.memory`."""
        flipped = (1 - kept) / 2
        return self.swapped(BellDiagonal((1 - flipped, 0.0, flipped, 0.0)))

    def mixed(self, share: float) -> "BellDiagonal":
        """Where a ``share`` of the pairs is no pair at all: F' = (1 - share) F + share / 4."""
        none, x, z, both = ((1 - share) * p + share / 4 for p in self.weights)
        return BellDiagonal((none, x, z, both))


PERFECT = BellDiagonal((1.0, 0.0, 0.0, 0.0))


def werner(fidelity: float) -> BellDiagonal:
    """Errors of all three kinds alike."""
    each = (1 - fidelity) / 3
    return BellDiagonal((fidelity, each, each, each))


def of_visibility(visibility: float) -> BellDiagonal:
    """The Werner pair of F = (1 + 3 V) / 4; as a factor: what V does to any other pair."""
    return werner((1 + 3 * visibility) / 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class BellClicks:
    """Probabilities of an accepted pattern of clicks, in one try.

    true   both photons came and clicked
    false  at least one of the two clicks was a dark count; nothing was swapped
    """

    true: float
    false: float

    @property
    def success(self) -> float:
        """An accepted pattern is announced, whatever made it."""
        return self.true + self.false

    @property
    def false_share(self) -> float:
        """f, of the announced ones."""
        return self.false / self.success if self.success else 0.0


def linear_optics(efficiency: float, dark: float) -> BellClicks:
    """A Bell measurement of two photons by four threshold detectors.

    efficiency  of each photon, from where it is entangled to its click
    dark        probability of a dark count, of each detector in the gate

    Exactly two detectors click, of different polarisation. Both photons arrive and are in one of
    the two states that are told: true. Both in one of the others go to one detector, so that, as
    with one photon alone, 2 of the 3 other detectors make a pattern; without photons 4 pairs do.
    """
    both, one = efficiency**2, 2 * efficiency * (1 - efficiency)
    none, silent = (1 - efficiency) ** 2, (1 - dark) ** 2
    return BellClicks(
        true=both / 2 * silent,
        false=(none * 4 * dark**2 + (one + both / 2) * 2 * dark) * silent,
    )


def chain_of_swaps(link: BellDiagonal, swap: BellDiagonal, n_links: int) -> BellDiagonal:
    """The pair over ``n_links`` alike links and the swaps between them, in any order."""
    pair = link
    for _ in range(n_links - 1):
        pair = pair.swapped(link).swapped(swap)
    return pair
