"""Bob's clock of a simulated link, which runs on between blocks."""

from math import sqrt
from threading import Lock

import numpy as np

from qkd_sim_link.sampling.records import Clocks
from qkd_sim_link.scenarios.pairs import BobClock

ROLLOVER_PS = 1 << 59  # a clock begins anew after 6.7 days, between two blocks


class RunningClock:
    """Safe for threads."""

    def __init__(self, clock: BobClock, seed: int) -> None:
        self._clock = clock
        self._walk = np.random.default_rng(seed)
        self._lock = Lock()
        self._drift = clock.drift_ppm * 1e-6
        self._bob_ahead_ps = clock.offset_ms * 1e9
        self._at_s = 0.0

    def at(self, begun_s: float) -> Clocks:
        """Let it run until a block begins. Blocks begin in the order of time."""
        clock = self._clock
        with self._lock:
            passed = max(0.0, begun_s - self._at_s)
            self._at_s += passed
            self._bob_ahead_ps += passed * 1e12 * self._drift
            self._drift += clock.wander * sqrt(passed) * self._walk.standard_normal()
            skew_ms = clock.start_skew_ms * self._walk.uniform(-1, 1)
            alice_ps = round(self._at_s * 1e12)
            return Clocks(
                alice_ps=alice_ps % ROLLOVER_PS,
                bob_ps=(alice_ps + round(self._bob_ahead_ps)) % ROLLOVER_PS,
                drift=self._drift,
                skew_ps=round(skew_ms * 1e9),
            )
