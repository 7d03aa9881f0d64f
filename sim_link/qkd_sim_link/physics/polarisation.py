"""Errors from a polarisation that wanders.

A state whose Stokes vector is off by an angle t leaves the wrong port with probability
sin^2(t / 2). Source: Born and Wolf, Principles of Optics, section 1.4.2 (the Poincare sphere). If t
is a Brownian motion of standard deviation k sqrt(time), E[cos t] = e^(-k^2 time / 2).
"""

from math import expm1

import numpy as np
import numpy.typing as npt

from qkd_sim_link.scenarios.channels import Polarisation

Numbers = npt.NDArray[np.float64]


def error(angle: Numbers) -> Numbers:
    """Probability of the wrong port for a Stokes vector that is off by ``angle`` rad."""
    wrong: Numbers = np.sin(angle / 2) ** 2
    return wrong


def mean_error(polarisation: Polarisation) -> float:
    """The average over the time between two realignments."""
    exponent = polarisation.walk_rad_per_sqrt_s**2 * polarisation.realign_s / 2
    return (1 + expm1(-exponent) / exponent) / 2 if exponent else 0.0
