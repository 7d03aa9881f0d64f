"""Clicks of two threshold detectors behind a phase-randomised coherent source.

Such light, split by linear optics, reaches the two detectors as *independent* Poisson photon
numbers, so their clicks are independent and every probability below is exact. ``C`` and ``S`` are
the probabilities that the detector of Alice's bit, and the other one, stay silent in a gate:

    equal bases      S = (1 - pd) e^(-eta mu ed)     C = (1 - pd) e^(-eta mu (1 - ed))
    unequal bases    S = C = (1 - pd) e^(-eta mu / 2)

A double click becomes a random bit at Bob, so gain Q = 1 - S C, error gain E Q =
(1 - S)(1 + C)/2, double clicks (1 - S)(1 - C).
Source: Ma et al., PRA 72, 012326 (2005), eqs. (10) and (11), without their approximation that
drops double clicks; the random bit: Lim et al., PRA 89, 022307 (2014), section II, step 2.
"""

from dataclasses import dataclass
from math import exp

from qkd_core.types.plans import DecoySettings, LinkModel
from qkd_sim_link.physics.dead_time import HoldOff
from qkd_sim_link.physics.fibre import fibre_transmittance, receiver_transmittance
from qkd_sim_link.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Silence:
    """No-click probabilities in one live gate; ``afterpulse`` is added by the gate's history.

    right       C, of the detector that stands for Alice's bit
    wrong       S, of the other detector
    afterpulse  probability of an afterpulse in this gate, in either detector with equal chance
    """

    right: float
    wrong: float
    afterpulse: float = 0.0

    @property
    def gain(self) -> float:
        """Probability of any click."""
        return 1 - (1 - self.afterpulse) * self.right * self.wrong

    @property
    def error_gain(self) -> float:
        """Probability of a click whose bit is not Alice's; a double click counts half."""
        without = (1 - self.wrong) * (1 + self.right) / 2
        in_wrong, in_right = (1 + self.right) / 2, (1 - self.wrong) / 2
        return (1 - self.afterpulse) * without + self.afterpulse * (in_wrong + in_right) / 2

    @property
    def double(self) -> float:
        """Probability that both detectors click."""
        without = (1 - self.wrong) * (1 - self.right)
        with_one = (1 - self.right + 1 - self.wrong) / 2
        return (1 - self.afterpulse) * without + self.afterpulse * with_one


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """Everything that decides a click in one live gate.

    transmittance  from Alice's output to an avalanche
    misalignment   e_d
    dark           per gate and detector
    """

    transmittance: float
    misalignment: float
    dark: float

    @staticmethod
    def of(scenario: Scenario) -> "Optics":
        """The optics of ``scenario``."""
        receiver, detector = scenario.receiver, scenario.detector
        return Optics(
            transmittance=fibre_transmittance(scenario.fibre)
            * receiver_transmittance(receiver, detector),
            misalignment=receiver.misalignment_error,
            dark=detector.dark_probability_per_gate,
        )

    def equal_bases(self, intensity: float, afterpulse: float = 0.0) -> Silence:
        """A pulse that Bob measures in Alice's basis."""
        mean, lit = self.transmittance * intensity, 1 - self.dark
        return Silence(
            right=lit * exp(-mean * (1 - self.misalignment)),
            wrong=lit * exp(-mean * self.misalignment),
            afterpulse=afterpulse,
        )

    def unequal_bases(self, intensity: float, afterpulse: float = 0.0) -> Silence:
        """A pulse that Bob measures in the other basis: half of the light to each detector."""
        silent = (1 - self.dark) * exp(-self.transmittance * intensity / 2)
        return Silence(right=silent, wrong=silent, afterpulse=afterpulse)

    def mean_gain(self, settings: DecoySettings) -> float:
        """Click probability in a live gate over all of Alice's settings, without afterpulses.

        The gain is the same in equal and unequal bases, so the bases do not enter.
        """
        gains = (self.equal_bases(mu).gain for mu in settings.intensities)
        return sum(p * gain for p, gain in zip(settings.probabilities, gains, strict=True))


def expected_model(scenario: Scenario, settings: DecoySettings | None = None) -> LinkModel:
    """What a planner may expect of the link; ``settings`` None means the scenario's own.

    ``gain[k]`` is conditional on intensity k and equal bases: the probability that the pulse meets
    live detectors, times that of a click. An afterpulse is a click with a random bit.
    """
    settings = settings or scenario.source.settings()
    optics = Optics.of(scenario)
    steady = HoldOff.of(scenario.detector, settings.clock_hz).steady(optics.mean_gain(settings))
    gates = [optics.equal_bases(mu, steady.afterpulse) for mu in settings.intensities]
    gain = [steady.live * gate.gain for gate in gates]
    qber = [gate.error_gain / gate.gain if gate.gain else 0.0 for gate in gates]
    return LinkModel(gain=(gain[0], gain[1], gain[2]), qber=(qber[0], qber[1], qber[2]))
