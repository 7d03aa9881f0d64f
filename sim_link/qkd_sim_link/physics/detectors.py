"""Single-photon detectors: what is known of one, two presets, and how it tires at high rates."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_TERMS = 400  # of a series whose terms fall like e^(-k^2 / (2 x)): enough for x up to 1,000
LOAD_MAX = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """Each of Bob's two gated detectors.

    Any click gates both off for ``dead_time_us``. ``afterpulse_probability``: a click is followed
    by an afterpulse of its detector after the dead time, delayed from the end of the dead time by
    an exponential law with ``afterpulse_time_us``. ``jitter_sigma_ps`` is a standard deviation.
    ``mismatch``: the detector of the bit 1 sees so much of what the other one would. The theorems
    take both as alike: with others no key is covered by them, which is the monitors' matter.
    ``recovery_us``: after the dead time the efficiency comes back exponentially, in this time.
    """

    efficiency: float
    dark_probability_per_gate: float
    dead_time_us: float
    afterpulse_probability: float
    afterpulse_time_us: float
    jitter_sigma_ps: float
    source: str
    mismatch: float = 1.0
    recovery_us: float = 0.0


PRESETS = {
    "snspd": Detector(
        efficiency=0.8,
        dark_probability_per_gate=1e-7,
        dead_time_us=0.04,
        afterpulse_probability=0.0,
        afterpulse_time_us=1.0,
        jitter_sigma_ps=25.0,
        source=(
            "Superconducting nanowires: Marsili et al., Nature Photonics 7, 210 (2013) (93 % system"
            " efficiency, 40 ns reset time); 100 dark counts a second in gates of 1 GHz and 60 ps"
            " of jitter at half maximum are round figures of commercial systems"
        ),
    ),
    "ingaas": Detector(
        efficiency=0.2,
        dark_probability_per_gate=1e-6,
        dead_time_us=2.0,
        afterpulse_probability=0.03,
        afterpulse_time_us=1.1,
        jitter_sigma_ps=40.0,
        source=(
            "Gigahertz-gated InGaAs: Yuan et al., APL 91, 041114 (2007); decay time of afterpulses:"
            " Shaw et al., arXiv:2106.05599; 20 %, 1e-6 a gate and 3 % are round figures in their"
            " range"
        ),
    ),
}


def tired(load: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean efficiency of a recovering detector, as a part of the full one.

    load  float64[n], clicks that a detector of full efficiency would see per recovery time, of a
          Poisson stream; up to `LOAD_MAX`, above it is taken as that

    With hazard (load / tau)(1 - e^(-t / tau)) after the dead time the mean wait is
    tau sum_k x^k / (x (x + 1) ... (x + k)), x = load, and the mean efficiency tau over (wait x).
    Source: the current in a nanowire returns exponentially: Kerman et al., APL 88, 111116 (2006);
    the efficiency is taken as proportional to it. The wait: renewal theory, by the series of the
    incomplete gamma function, Abramowitz and Stegun, 6.5.29.
    """
    x = np.clip(load, 1e-12, LOAD_MAX)
    term = np.ones_like(x)
    total = term.copy()  # of x^(k + 1) / (x ... (x + k)), k from 0
    for k in range(1, _TERMS):
        term = term * x / (x + k)
        total += term
    return 1 / total
