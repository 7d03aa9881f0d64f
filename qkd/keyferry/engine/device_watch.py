"""Asks the link's device each second how it is, beside the blocks and without holding them up.

The device is asked in a thread of its own: one that never answers keeps that thread and nothing
else. Counts by channel end here: how many clicks of a block were of each bit is nearly how many
ones its key has, and no plan has paid for that.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from operator import index
from threading import Event, Thread
from types import TracebackType
from typing import Protocol, Self

from qkd_client.wire import readable
from qkd_core.ports import Clock
from qkd_core.types.device import SILENT_S, ClockState, DeviceFigures

ASK_S = 1.0
STOP_S = 1.0  # a question under way has so long to end, and else ends with the process
ALARMS = 16  # that are shown
NOT_ASKED = "not asked yet"


class Health(Protocol):
    """As `qkd_sim_link.drivers.contract.Health`."""

    @property
    def counts(self) -> tuple[int, ...]: ...
    @property
    def missed(self) -> int: ...
    @property
    def fill(self) -> float: ...
    @property
    def clock_state(self) -> str: ...
    @property
    def alarms(self) -> tuple[str, ...]: ...


class EventRate:
    """Events in a second, also of a device that counts an epoch as a whole at its end.

    It is that between the two newest changes of their number, and falls when one is overdue.
    """

    def __init__(self) -> None:
        self._n_events: int | None = None
        self._more, self._within_s, self._changed_s = 0, 1.0, 0.0

    def hz(self, n_events: int, now_s: float) -> float:
        """After an answer at ``now_s``; a number that fell begins anew."""
        before = self._n_events
        if before is None or n_events < before:
            self._more, self._changed_s = 0, now_s
        elif n_events > before:
            self._more, self._within_s = n_events - before, now_s - self._changed_s
            self._changed_s = now_s
        self._n_events = n_events
        return self._more / max(self._within_s, now_s - self._changed_s)


class DeviceWatch:
    """Watches one device from entering to leaving."""

    def __init__(
        self,
        health: Callable[[], Health],
        clock: Clock,
        *,
        ask_s: float = ASK_S,
        silent_s: float = SILENT_S,
    ) -> None:
        """``health`` may raise anything, and may not return: no answer within ``silent_s`` is none.

        Between two questions are ``ask_s``.
        """
        self._health, self._clock = health, clock
        self._ask_s, self._silent_s = ask_s, silent_s
        self._stopping = Event()
        self._rate = EventRate()
        self._heard = DeviceFigures(told_at=0.0, trouble=NOT_ASKED), time.monotonic()
        self._thread = Thread(target=self._ask_on, name="device", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join(STOP_S)

    def figures(self) -> DeviceFigures:
        """What is known now; at once, also while the device does not answer."""
        known, asked_s = self._heard
        figures = replace(known, told_at=self._clock.now())
        if time.monotonic() - asked_s > self._silent_s:
            return replace(figures, trouble=f"no answer within {self._silent_s:g} s", rate_hz=0.0)
        return figures

    def _ask_on(self) -> None:
        while not self._stopping.is_set():
            try:
                figures = self._figures_of(self._health())
            except Exception as error:  # a driver may raise anything, and the watch goes on
                why = readable(str(error)) or type(error).__name__
                figures = replace(self._heard[0], trouble=why, rate_hz=0.0)
            self._heard = figures, time.monotonic()
            self._stopping.wait(self._ask_s)

    def _figures_of(self, health: Health) -> DeviceFigures:
        """Raises ValueError, TypeError for an answer that is none by the contract."""
        counts, missed = [index(n) for n in health.counts], index(health.missed)
        if min(0, missed, *counts) < 0:
            raise ValueError("it counts below 0")
        if not 0 <= health.fill <= 1:
            raise ValueError(f"its buffer is {health.fill} full: from 0 to 1")
        return DeviceFigures(
            told_at=0.0,
            answered_at=self._clock.now(),
            n_events=sum(counts) if counts else None,
            rate_hz=self._rate.hz(sum(counts), time.monotonic()),
            missed=missed,
            fill=float(health.fill),
            clock_state=ClockState(health.clock_state),
            alarms=tuple(sorted({readable(alarm) for alarm in health.alarms}))[:ALARMS],
        )
