"""Lines of the log about a device: one for each change, none while nothing changes."""

import logging
import time
from collections.abc import Callable

from keyferry.engine.device_watch import NOT_ASKED
from qkd_core.types.device import ClockState, DeviceFigures

log = logging.getLogger(__name__)

LOSSES_S = 60.0  # losses may go on: they are told as often at most
HEALTHY = (ClockState.LOCKED, ClockState.UNKNOWN)


class DeviceChanges:
    """Compares each look at a device with the one before."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._is_gone = False
        self._clock_state = ClockState.UNKNOWN
        self._alarms: frozenset[str] = frozenset()
        self._missed = 0
        self._losses_due_s = float("-inf")

    def note(self, figures: DeviceFigures) -> None:
        """Of a device that does not answer, only that: its figures are old."""
        if figures.trouble == NOT_ASKED:
            return
        if figures.trouble:
            if not self._is_gone:
                log.warning("the link's device does not answer: %s", figures.trouble)
            self._is_gone = True
            return
        if self._is_gone:
            log.info("the link's device answers again")
        self._is_gone = False
        self._note_clock(figures.clock_state)
        self._note_alarms(frozenset(figures.alarms))
        self._note_losses(figures.missed)

    def _note_clock(self, state: ClockState) -> None:
        if state is not self._clock_state:
            level = logging.INFO if state in HEALTHY else logging.WARNING
            log.log(level, "the device's clock: %s, before %s", state, self._clock_state)
        self._clock_state = state

    def _note_alarms(self, alarms: frozenset[str]) -> None:
        for alarm in sorted(alarms - self._alarms):
            log.warning("an alarm of the device: %s", alarm)
        for alarm in sorted(self._alarms - alarms):
            log.info("an alarm of the device is over: %s", alarm)
        self._alarms = alarms

    def _note_losses(self, missed: int) -> None:
        if missed < self._missed:  # it began anew
            self._missed = 0
        if missed > self._missed and self._now_s() >= self._losses_due_s:
            log.warning(
                "the device lost %d events: their epochs give no key", missed - self._missed
            )
            self._missed, self._losses_due_s = missed, self._now_s() + LOSSES_S
