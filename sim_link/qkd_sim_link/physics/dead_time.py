"""Common dead time and afterpulses as a renewal process over gates.

Any click gates both detectors off. With the next live gate ``n_dead`` gates later, the gates are
counted from there: the next photon or dark click is at gate G, geometric with the click
probability p per live gate (q = 1 - p), and with probability a an afterpulse is due at gate A,
geometric with ratio r = e^(-T/tau) for period T. The earlier one is the next click and the memory
starts anew, so intervals n_dead + min(G, A) are independent and alike:

    P(min(G, A) >= j) = q^j (1 - a + a r^j)
    live gates per click          E = (1 - a)/p + a/(1 - q r)
    their mean square             (1 - a)(1 + q)/p^2 + a (1 + q r)/(1 - q r)^2
    afterpulses per live gate     a (1 - r)/(1 - q r) / E
    live fraction of all gates    E / (n_dead - 1 + E)

Without afterpulses the last line is the non-paralysable 1/(1 + p (n_dead - 1)).
Source: elementary renewal theorem (Cox, Renewal Theory, 1962); the non-paralysable detector:
Knoll, Radiation Detection and Measurement, chapter 4.
"""

from dataclasses import dataclass
from math import ceil, exp

import numpy as np
import numpy.typing as npt

from qkd_sim_link.physics.detectors import Detector

PS_PER_US = 1e6
_FAINTEST = 1e-100  # a click probability that stands for 0, so that its square is still a number
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Long-run averages.

    live               fraction of gates that are live
    afterpulse, click  probabilities per live gate
    mean, variance     of the gates from a click to the next
    """

    live: Floats
    afterpulse: Floats
    click: Floats
    mean: Floats
    variance: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOff:
    """What a click does to the gates after it.

    n_dead       the first live gate comes so many gates after the click, at least 1
    afterpulse   probability of an afterpulse after the dead time
    decay_gates  time constant of its delay, in gates
    """

    n_dead: int
    afterpulse: float
    decay_gates: float

    @staticmethod
    def of(detector: Detector, clock_hz: float) -> "HoldOff":
        """The hold-off of ``detector`` when it is gated at ``clock_hz``."""
        period_ps = 1e12 / clock_hz
        # 2000.0000000000002 gates of dead time are 2000: the quotient carries rounding noise
        gates = round(detector.dead_time_us * PS_PER_US / period_ps, 6)
        return HoldOff(
            n_dead=max(1, ceil(gates)),
            afterpulse=detector.afterpulse_probability,
            decay_gates=detector.afterpulse_time_us * PS_PER_US / period_ps,
        )

    def steady(self, click_probability: Floats | float) -> Steady:
        """Averages under ``click_probability`` per live gate from light and dark counts."""
        p = np.maximum(click_probability, _FAINTEST)
        a, kept = self.afterpulse, exp(-1 / self.decay_gates)
        both = (1 - p) * kept
        live_gates = (1 - a) / p + a / (1 - both)
        square = (1 - a) * (2 - p) / p**2 + a * (1 + both) / (1 - both) ** 2
        return Steady(
            live=live_gates / (self.n_dead - 1 + live_gates),
            afterpulse=a * (1 - kept) / (1 - both) / live_gates,
            click=1 / live_gates,
            mean=self.n_dead - 1 + live_gates,
            variance=np.maximum(square - live_gates**2, 0.0),
        )
