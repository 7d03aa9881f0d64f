"""Random records of two ends, by laws that a test knows."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Light:
    """Rates in 1/s of common light, and of what either end sees for itself; jitter of each end."""

    pairs: float
    only_a: float
    only_b: float
    jitter_ps: float = 60.0


def instants(rng: np.random.Generator, rate_hz: float, span_s: float) -> np.ndarray:
    """float64[n]: times in s, of a Poisson process."""
    return rng.uniform(0, span_s, rng.poisson(rate_hz * span_s))


def records(light: Light, span_s: float, seed: int, late_s=lambda t: np.zeros_like(t)):
    """int64[..] each, rising, in ps: Alice's record and Bob's, whose clock shows t + late_s(t)."""
    rng = np.random.default_rng(seed)
    common = instants(rng, light.pairs, span_s)
    at_a = np.concatenate((common, instants(rng, light.only_a, span_s)))
    at_b = np.concatenate((common, instants(rng, light.only_b, span_s)))
    ends = []
    for seconds, ahead in ((at_a, np.zeros_like(at_a)), (at_b, late_s(at_b))):
        ps = seconds * 1e12 + ahead * 1e12 + rng.normal(0, light.jitter_ps, seconds.size)
        ends.append(np.sort(np.rint(ps).astype(np.int64)))
    return ends[0], ends[1]
