"""Notices that the clock was set."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from qkd_core.ports import Clock

LEAST_STEP_S = 2.0  # less is drift, or a machine that is busy


@dataclass(slots=True)
class ClockWatch:
    """Compares the clock with one that cannot be set, from look to look.

    A machine that slept shows as a step forward.
    """

    clock: Clock
    monotonic: Callable[[], float] = time.monotonic
    _ahead_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._ahead_s = self.clock.now() - self.monotonic()

    def step_s(self) -> float:
        """By how much the clock was set since the last look, 0.0 if it was not."""
        before, self._ahead_s = self._ahead_s, self.clock.now() - self.monotonic()
        step_s = self._ahead_s - before
        return step_s if abs(step_s) > LEAST_STEP_S else 0.0
