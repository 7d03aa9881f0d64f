"""The faults of a link that runs: those of its scenario, and those that it was told since."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf
from threading import Lock

from qkd_core.errors import ConfigError
from qkd_sim_link.scenarios.faults import Fault

AT_ONCE_MAX = 64  # faults that have not ended


class FaultBoard:
    """Which faults act when. Safe for threads.

    A block is drawn when it begins, up to its end: what is told later cannot change it any more,
    so it acts, and ends, from the end of the block that was drawn last.
    """

    def __init__(self, faults: Iterable[Fault], now_s: Callable[[], float]) -> None:
        """``now_s`` tells the seconds by which the times of the faults go."""
        self._faults = list(faults)
        self._now_s = now_s
        self._drawn_until_s = 0.0
        self._number = max((fault.number for fault in self._faults), default=0)
        self._lock = Lock()

    def drawn(self, begin_s: float, end_s: float) -> tuple[Fault, ...]:
        """The faults of a block between these moments, which then stays as it is."""
        with self._lock:
            self._drawn_until_s = max(self._drawn_until_s, end_s)
            return tuple(fault for fault in self._faults if fault.overlaps(begin_s, end_s))

    def acting(self) -> tuple[Fault, ...]:
        """Those that act at this moment."""
        now_s = self._now_s()
        with self._lock:
            return tuple(f for f in self._faults if f.start_s <= now_s < f.end_s)

    def waiting(self) -> tuple[tuple[Fault, float, float], ...]:
        """Those that have not ended: when each begins and ends, in seconds from now."""
        now_s = self._now_s()
        with self._lock:
            return tuple(
                (fault, fault.start_s - now_s, fault.end_s - now_s)
                for fault in self._faults
                if fault.end_s > now_s
            )

    def begin(self, fault: Fault, last_s: float = inf) -> float:
        """Let ``fault`` act as soon as it can, for ``last_s``; returns in how many seconds.

        Raises ConfigError when there are too many already.
        """
        with self._lock:
            now_s, free_s = self._free_s()
            self._faults = [each for each in self._faults if each.end_s > now_s]
            if len(self._faults) >= AT_ONCE_MAX:
                raise ConfigError(f"fault {fault.kind}: {AT_ONCE_MAX} have not ended yet")
            self._number += 1
            timed = replace(fault, start_s=free_s, end_s=free_s + last_s, number=self._number)
            self._faults.append(timed)
            return free_s - now_s

    def clear(self, kind: str | None) -> tuple[int, float]:
        """End all faults, or those of one kind, as soon as it can be; those to come never begin.

        Returns how many, and in how many seconds.
        """
        with self._lock:
            now_s, free_s = self._free_s()
            kept: list[Fault] = []
            n = 0
            for fault in self._faults:
                if fault.end_s <= free_s or kind not in (None, fault.kind):
                    kept.append(fault)
                    continue
                n += 1
                if fault.start_s < free_s:
                    kept.append(replace(fault, end_s=free_s))
            self._faults = kept
            return n, free_s - now_s

    def _free_s(self) -> tuple[float, float]:
        """Now, and the first moment that is not drawn yet."""
        now_s = self._now_s()
        return now_s, max(now_s, self._drawn_until_s)
