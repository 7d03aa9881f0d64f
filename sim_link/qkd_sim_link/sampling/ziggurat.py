"""Exponential and normal numbers from about one random word each.

Source: Marsaglia and Tsang, "The ziggurat method for generating random variables", J. Stat.
Software 5(8), 2000, with 256 layers. The layer, the sign and the place in the layer come from
different bits of a word: Doornik, "An improved ziggurat method", 2005.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numba import njit, types

from qkd_sim_link.sampling.generator import F64, GOLDEN, U64, mix64, unit

LAYERS = 256
EXPONENTIAL_EDGE = 7.69711747013104972  # where the tail begins
NORMAL_EDGE = 3.6541528853610088
_LAYER, _SIGN = np.uint64(LAYERS - 1), np.uint64(LAYERS)


def layers(
    edge: float, density: Callable[[float], float], inverse: Callable[[float], float], tail: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """float64[LAYERS + 1] each: right ends of layers of equal area, and the density there.

    The lowest layer holds the tail beyond ``edge``, of area ``tail``.
    """
    area = edge * density(edge) + tail
    ends = np.zeros(LAYERS + 1)
    ends[:2] = area / density(edge), edge
    for i in range(2, LAYERS):
        ends[i] = inverse(density(ends[i - 1]) + area / ends[i - 1])
    return ends, np.array([density(end) for end in ends])


EXP_ENDS, EXP_DENSITY = layers(
    EXPONENTIAL_EDGE,
    lambda x: math.exp(-x),
    lambda y: -math.log(y),
    math.exp(-EXPONENTIAL_EDGE),
)
NORMAL_ENDS, NORMAL_DENSITY = layers(
    NORMAL_EDGE,
    lambda x: math.exp(-x * x / 2),
    lambda y: math.sqrt(-2 * math.log(y)),
    math.sqrt(math.pi / 2) * math.erfc(NORMAL_EDGE / math.sqrt(2)),
)


@njit(types.Tuple((U64, F64))(U64), cache=True, nogil=True)
def next_exponential(counter):
    """The advanced counter, and a number from the exponential law of mean 1."""
    while True:
        counter += GOLDEN
        word = mix64(counter)
        layer = np.int64(word & _LAYER)
        x = unit(word) * EXP_ENDS[layer]
        if x < EXP_ENDS[layer + 1]:
            return counter, x
        counter += GOLDEN
        u = unit(mix64(counter))
        if layer == 0:  # the tail of an exponential law is one
            return counter, EXPONENTIAL_EDGE - math.log(1.0 - u)
        low, high = EXP_DENSITY[layer], EXP_DENSITY[layer + 1]
        if low + u * (high - low) < math.exp(-x):
            return counter, x


@njit(types.Tuple((U64, F64))(U64), cache=True, nogil=True)
def normal_tail(counter):
    """How far beyond the edge a normal number lies that is there.

    Source: Marsaglia, "Generating a variable from the tail of the normal distribution",
    Technometrics 6, 101 (1964).
    """
    while True:
        counter += GOLDEN + GOLDEN
        beyond = -math.log(1.0 - unit(mix64(counter - GOLDEN))) / NORMAL_EDGE
        if -2.0 * math.log(1.0 - unit(mix64(counter))) >= beyond * beyond:
            return counter, beyond


@njit(types.Tuple((U64, F64))(U64), cache=True, nogil=True)
def next_normal(counter):
    """The advanced counter, and a number from the standard normal law."""
    while True:
        counter += GOLDEN
        word = mix64(counter)
        layer = np.int64(word & _LAYER)
        sign = 1.0 if word & _SIGN else -1.0
        x = unit(word) * NORMAL_ENDS[layer]
        if x < NORMAL_ENDS[layer + 1]:
            return counter, sign * x
        if layer == 0:
            counter, beyond = normal_tail(counter)
            return counter, sign * (NORMAL_EDGE + beyond)
        counter += GOLDEN
        u = unit(mix64(counter))
        low, high = NORMAL_DENSITY[layer], NORMAL_DENSITY[layer + 1]
        if low + u * (high - low) < math.exp(-0.5 * x * x):
            return counter, sign * x
