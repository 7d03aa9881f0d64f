"""Swabian Instruments' Time Tagger, through the vendor's library (PyPI: Swabian-TimeTagger).

Written after the library's names and never run with a device. Rising edges only: a falling edge
has a negative channel, which a tag of ours has no room for.

Whether a device answers is asked of its sensors. A model without any, the Time Tagger 20, is asked
for its configuration, which the library may know by itself: one that is unplugged then shows only
when a recording fails.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib import import_module
from typing import Any

import numpy as np

from qkd_core.errors import ConfigError, LinkDown
from qkd_sim_link.drivers.tagger import Recording, TaggerFacts

LIBRARY = "Swabian.TimeTagger"
VENDOR = "Swabian Instruments"
PS_PER_S = 10**12
EVENTS_MAX = 1 << 25
RATE_MAX_HZ = 8e6  # taken for what its slowest model hands on over USB; not measured
TIME_TAG = 0  # all other types of an event are an error, an overflow, or how many were missed


class SwabianTagger:
    """One device (`Tagger`)."""

    def __init__(self, serial: str = "") -> None:
        """``serial``: which one; "" for the one that there is. Raises ConfigError."""
        try:
            self._library: Any = import_module(LIBRARY)
        except ImportError as error:
            raise ConfigError(
                f"driver swabian: needs the package Swabian-TimeTagger: {error}"
            ) from error
        self._serial = serial
        self._device: Any = None
        self._stream: Any = None
        self._has_sensors = False

    def facts(self) -> TaggerFacts:
        device = self._opened()
        with _asked():
            model = str(device.getModel())
        return TaggerFacts(
            vendor=VENDOR,
            model=model,
            tick=Fraction(1),
            rate_max_hz=RATE_MAX_HZ,
        )

    def start(self, seconds: float, channels: tuple[int, ...]) -> None:
        device = self._opened()
        with _asked():
            self._stream = self._library.TimeTagStream(device, EVENTS_MAX, list(channels))
            self._stream.startFor(round(seconds * PS_PER_S))

    def is_over(self) -> bool:
        with _asked():
            return self._stream is None or not self._stream.isRunning()

    def recorded(self) -> Recording:
        if self._stream is None:
            raise LinkDown(f"{VENDOR}: nothing was recorded")
        with _asked():
            data = self._stream.getData()
        types = np.asarray(data.getEventTypes())
        told = int(np.asarray(data.getMissedEvents()).sum()) + int(
            np.count_nonzero(types != TIME_TAG)
        )
        return Recording(
            time=np.array(data.getTimestamps(), np.int64),
            channel=np.array(data.getChannels(), np.uint8),
            missed=max(told, int(types.size >= EVENTS_MAX)),
        )

    def abort(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with _asked():
                stream.stop()

    def answer(self) -> None:
        device = self._opened()
        with _asked():
            if self._has_sensors:
                device.getSensorData()
            else:
                device.getConfiguration()

    def close(self) -> None:
        device, self._device = self._device, None
        try:
            self.abort()
        finally:
            if device is not None:
                with _asked():
                    self._library.freeTimeTagger(device)

    def _opened(self) -> Any:
        if self._device is None:
            with _asked():
                self._device = self._library.createTimeTagger(self._serial)
            self._has_sensors = _has_sensors(self._device)
        return self._device


@contextmanager
def _asked() -> Iterator[None]:
    """The library says with RuntimeError that a device is gone."""
    try:
        yield
    except RuntimeError as error:
        raise LinkDown(f"{VENDOR}: {error}") from error


def _has_sensors(device: Any) -> bool:
    """Of a device that was just taken, which therefore answers."""
    try:
        return bool(device.getSensorData())
    except RuntimeError:
        return False
