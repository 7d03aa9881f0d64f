"""Clicks of two threshold detectors behind a phase-randomised coherent source.

Such light, split by linear optics, reaches the two detectors as *independent* Poisson photon
numbers, so their clicks are independent and every probability below is exact. ``C`` and ``S`` are
the probabilities that the detector of Alice's bit, and the other one, stay silent in a gate:

    equal bases      S = (1 - pd) e^(-eta mu ed)     C = (1 - pd) e^(-eta mu (1 - ed))
    unequal bases    S = C = (1 - pd) e^(-eta mu / 2)

with eta and pd of the detector in question. A double click becomes a random bit at Bob, so gain
Q = 1 - S C, error gain E Q = (1 - S)(1 + C)/2, double clicks (1 - S)(1 - C).
Source: Ma et al., PRA 72, 012326 (2005), eqs. (10) and (11), without their approximation that
drops double clicks; the random bit: Lim et al., PRA 89, 022307 (2014), section II, step 2.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from qkd_core.types.plans import DecoySettings, LinkModel
from qkd_sim_link.physics.channel import fading_spread
from qkd_sim_link.physics.course import Course, steady_course
from qkd_sim_link.physics.dead_time import HoldOff, Steady
from qkd_sim_link.physics.detectors import tired
from qkd_sim_link.scenarios.pulses import Scenario

Floats = npt.NDArray[np.float64]
Numbers = Any  # a float, or float64 arrays that broadcast with each other


@dataclass(frozen=True, slots=True)
class Silence:
    """No-click probabilities in one live gate; ``afterpulse`` is added by the gate's history.

    right       C, of the detector that stands for Alice's bit
    wrong       S, of the other detector
    afterpulse  probability of an afterpulse in this gate
    in_right    probability that it is one of the detector of Alice's bit
    """

    right: Numbers
    wrong: Numbers
    afterpulse: Numbers = 0.0
    in_right: Numbers = 0.5

    @property
    def gain(self) -> Numbers:
        """Probability of any click."""
        return 1 - (1 - self.afterpulse) * self.right * self.wrong

    @property
    def error_gain(self) -> Numbers:
        """Probability of a click whose bit is not Alice's; a double click counts half."""
        without = (1 - self.wrong) * (1 + self.right) / 2
        in_wrong = (1 - self.in_right) * (1 + self.right) / 2
        in_right = self.in_right * (1 - self.wrong) / 2
        return (1 - self.afterpulse) * without + self.afterpulse * (in_wrong + in_right)

    @property
    def double(self) -> Numbers:
        """Probability that both detectors click."""
        without = (1 - self.wrong) * (1 - self.right)
        with_one = (1 - self.in_right) * (1 - self.right) + self.in_right * (1 - self.wrong)
        return (1 - self.afterpulse) * without + self.afterpulse * with_one


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """Everything that decides a click in one live gate, as the detector of Alice's bit has it.

    transmittance  from Alice's output to an avalanche, at full efficiency
    misalignment   e_d
    dark           per gate, of the detector of Alice's bit; ``other_dark``: of the other one, None
                   if it is like it
    efficiency     parts of the full efficiency that the two have, in the same order
    """

    transmittance: Numbers
    misalignment: Numbers
    dark: Numbers
    other_dark: Numbers = None
    efficiency: tuple[Numbers, Numbers] = (1.0, 1.0)

    @staticmethod
    def of(scenario: Scenario) -> "Optics":
        """The optics of ``scenario`` on average, with detectors that are both like that of bit 0.

        Of a satellite, when it culminates.
        """
        course = steady_course(scenario, scenario.source.settings())
        brightest = int(np.argmax(course.transmittance))
        return Optics(
            transmittance=float(course.transmittance[brightest]),
            misalignment=float(course.misalignment[brightest, 0]),
            dark=float(course.dark[brightest, 0]),
        )

    def equal_bases(
        self, intensity: Numbers, afterpulse: Numbers = 0.0, in_right: Numbers = 0.5
    ) -> Silence:
        """A pulse that Bob measures in Alice's basis."""
        return self._split(intensity, self.misalignment, (afterpulse, in_right))

    def unequal_bases(
        self, intensity: Numbers, afterpulse: Numbers = 0.0, in_right: Numbers = 0.5
    ) -> Silence:
        """A pulse that Bob measures in the other basis: half of the light to each detector."""
        return self._split(intensity, 0.5, (afterpulse, in_right))

    def mean_gain(self, settings: DecoySettings) -> Numbers:
        """Click probability in a live gate over all settings of both ends, without afterpulses."""
        mu, weights, p_basis = columns(settings)
        gains = p_basis * self.equal_bases(mu).gain + (1 - p_basis) * self.unequal_bases(mu).gain
        return np.sum(weights * gains, axis=(-3, -2, -1)) / gains.shape[-1]

    def reach(self, to_other: Numbers) -> tuple[Numbers, Numbers]:
        """The probabilities that a photon clicks in the detector of Alice's bit and in the other.

        ``to_other``: that it takes the way to the other one.
        """
        right, wrong = self.efficiency
        return (
            self.transmittance * (1 - to_other) * right,
            self.transmittance * to_other * wrong,
        )

    def _split(self, intensity: Numbers, to_other: Numbers, history: tuple[Any, Any]) -> Silence:
        right, wrong = self.reach(to_other)
        other_dark = self.dark if self.other_dark is None else self.other_dark
        return Silence(
            silent(intensity * right, self.dark), silent(intensity * wrong, other_dark), *history
        )


def silent(mean: Numbers, dark: Numbers) -> Numbers:
    """The probability that a live detector stays so under ``mean`` photons that it would see."""
    return (1 - dark) * np.exp(-mean)


def columns(settings: DecoySettings) -> tuple[Floats, Floats, Floats]:
    """As [intensity, basis, bit] broadcasts: intensity; probability of both; that of a basis."""
    p_basis = np.array([[settings.p_key_basis], [1 - settings.p_key_basis]])
    probabilities = np.array(settings.probabilities)[:, None, None]
    return np.array(settings.intensities)[:, None, None], probabilities * p_basis, p_basis


@dataclass(frozen=True, slots=True, eq=False)
class Gates:
    """The live gates of a block: arrays are float64[segment, intensity, Alice's basis, her bit]."""

    course: Course
    settings: DecoySettings

    @property
    def optics(self) -> Optics:
        course = self.course
        dark, efficiency = (x[:, None, None, :] for x in (course.dark, course.efficiency))
        return Optics(
            transmittance=course.transmittance[:, None, None, None],
            misalignment=course.misalignment[:, None, :, None],
            dark=dark,
            other_dark=dark[..., ::-1],
            efficiency=(efficiency, efficiency[..., ::-1]),
        )

    def reach(self) -> Floats:
        """float64[segment, 4, 2, 2]: probabilities that a photon of Alice's clicks.

        Of her bit | basis << 1, Bob's basis, and the detector.
        """
        optics = self.optics
        unequal, equal = optics.reach(0.5), optics.reach(optics.misalignment)
        shape = (self.course.n_segments, 1, 2, 2)
        reach = np.empty((shape[0], 2, 2, 2, 2))
        for theirs, basis, bit, detector in product(range(2), repeat=4):
            to = (equal if theirs == basis else unequal)[0 if detector == bit else 1]
            reach[:, basis, bit, theirs, detector] = np.broadcast_to(to, shape)[:, 0, basis, bit]
        return reach.reshape(shape[0], 4, 2, 2)

    def click(self) -> Floats:
        """float64[segment, 4 n, 2, 2]: click probabilities without afterpulses.

        Of Alice's choice (bit | basis << 1 | intensity << 2), Bob's basis, and the detector.
        """
        mu = np.array(self.settings.intensities)[:, None, None, None]
        mean = mu * self.reach()[:, None]
        quiet = silent(mean, self.course.dark[:, None, None, None, :])
        click: Floats = 1 - quiet.reshape(self.course.n_segments, -1, 2, 2)
        return click

    def steady(self, hold_off: HoldOff) -> tuple[Steady, Floats]:
        """Long-run averages in each segment; the share of afterpulses of the bit 0's detector.

        Its detector is that of the click before, which may be an afterpulse itself; of a double
        click it is either with equal chance. So the share w of detector 0 solves w Q = its single
        clicks + half of the double ones, in a gate where an afterpulse is due with probability a.
        """
        averages = hold_off.steady(self.optics.mean_gain(self.settings))
        share = np.full(self.course.n_segments, 0.5)
        if hold_off.afterpulse == 0 or self._alike:
            return averages, share
        p_0, p_1 = np.moveaxis(self.click(), -1, 0)
        weights = choice_weights(self.settings)
        only_0, only_1, both = (
            np.sum(weights * each, axis=(1, 2))
            for each in (p_0 * (1 - p_1), p_1 * (1 - p_0), p_0 * p_1)
        )
        a, none = averages.afterpulse, 1 - only_0 - only_1 - both
        kept = a * (none + only_0 + (only_1 + both) / 2) - a * (only_0 + both) / 2
        gained = (1 - a) * (only_0 + both / 2) + a * (only_0 + both) / 2
        left = 1 - (1 - a) * none - kept
        np.divide(gained, left, out=share, where=left > 0)
        return averages, np.clip(share, 0, 1)

    @property
    def _alike(self) -> bool:
        """Whether the two detectors are: by symmetry each then has half of the afterpulses."""
        pairs = (self.course.dark, self.course.efficiency)
        return all(np.array_equal(pair[:, 0], pair[:, 1]) for pair in pairs)


def choice_weights(settings: DecoySettings) -> Floats:
    """float64[4 n, 2]: probabilities of Alice's choice, as in `Gates.click`, and of Bob's basis."""
    _, weights, p_basis = columns(settings)
    return np.outer(np.repeat(weights.ravel(), 2) / 2, p_basis.ravel())


def tired_course(course: Course, scenario: Scenario, settings: DecoySettings) -> Course:
    """``course`` with the efficiency that is left to detectors which recover after each click.

    The mean over the time since a click stands for it; each detector sees half of the clicks.
    """
    recovery_gates = scenario.detector.recovery_us * 1e-6 * settings.clock_hz
    if recovery_gates == 0:
        return course
    clicks = Gates(course, settings).optics.mean_gain(settings)
    return course.with_(efficiency=tired(clicks / 2 * recovery_gates)[:, None])


def expected_model(scenario: Scenario, settings: DecoySettings | None = None) -> LinkModel:
    """What a planner may expect of the link; ``settings`` None means the scenario's own.

    ``gain[k]`` is conditional on intensity k and equal bases: the probability that the pulse meets
    live detectors, times that of a click. An afterpulse is a click with a random bit.
    """
    settings = settings or scenario.source.settings()
    course = tired_course(steady_course(scenario, settings), scenario, settings)
    gates = Gates(course, settings)
    steady, share = gates.steady(HoldOff.of(scenario.detector, settings.clock_hz))
    of_bits = np.stack([share, 1 - share], axis=-1)[:, None, None, :]
    mu, _, p_basis = columns(settings)
    gate = gates.optics.equal_bases(mu, steady.afterpulse[:, None, None, None], of_bits)
    both = p_basis**2 / np.sum(p_basis**2) / 2  # of a basis, equal at both ends, and of a bit
    live = (course.gates / settings.n_pulses * steady.live)[:, None, None, None]
    gain = np.sum(live * both * gate.gain, axis=(0, 2, 3))
    wrong = np.sum(live * both * gate.error_gain, axis=(0, 2, 3))
    return LinkModel(
        gain=tuple(gain.tolist()),
        qber=tuple(
            (w / g if g else 0.0) for w, g in zip(wrong.tolist(), gain.tolist(), strict=True)
        ),
        spread=fading_spread(scenario, settings),
    )
