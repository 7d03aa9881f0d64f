"""When to try again what failed for now."""

from collections.abc import Callable
from secrets import SystemRandom

FIRST_S = 0.5
LONGEST_S = 60.0

Fraction = Callable[[], float]  # in [0, 1)


class Backoff:
    """Waits that double with each failure in a row, each between half and all of its length.

    The jitter keeps two sites that failed together from coming back together.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        fraction: Fraction | None = None,
        longest_s: float = LONGEST_S,
    ) -> None:
        self._monotonic, self._longest_s = monotonic, longest_s
        self._fraction = fraction or SystemRandom().random
        self._failures = 0
        self._not_before = float("-inf")

    def may_try(self) -> bool:
        return self._monotonic() >= self._not_before

    def failed(self) -> float:
        """Note a failure; returns the seconds to wait."""
        longest: float = min(self._longest_s, FIRST_S * 2.0 ** min(self._failures, 16))
        delay_s = longest * (1 + self._fraction()) / 2
        self._failures += 1
        self._not_before = self._monotonic() + delay_s
        return delay_s

    def succeeded(self) -> None:
        self._failures = 0
        self._not_before = float("-inf")
