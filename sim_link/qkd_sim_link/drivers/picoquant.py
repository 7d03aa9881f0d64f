"""PicoQuant's Harps, through the vendor's library (PyPI: snapi), in T2 mode.

Written after the library's names and never run with a device. The library writes an overrun of the
device's own buffer to its log and nowhere else: only an epoch that fills our buffer is seen to be
lost. Whoever uses it must keep the rate well below what the device hands on.

Whether a device answers is asked by its count rates, of the library below the wrapper: the
wrapper's own `getCountRates` gives zeros for a device that is gone.
"""

import ctypes
from fractions import Fraction
from importlib import import_module
from math import ceil
from typing import Any

import numpy as np

from qkd_core.errors import ConfigError, LinkDown
from qkd_sim_link.drivers.tagger import Recording, TaggerFacts

LIBRARY, CONSTANTS = "snAPI.Main", "snAPI.Constants"
VENDOR = "PicoQuant"
MS_PER_S = 1000
EVENTS_MAX = 1 << 25
CHANNELS_MAX = 64  # that the library writes the rates of
RATE_MAX_HZ = 5e6  # taken for less than the slowest of these devices hands on; not measured


class PicoQuantTagger:
    """One device (`Tagger`). Its times are ps since the recording began."""

    def __init__(self, serial: str = "") -> None:
        """``serial``: which one; "" for the first one. Raises ConfigError."""
        try:
            self._library: Any = import_module(LIBRARY)
            self._constants: Any = import_module(CONSTANTS)
        except ImportError as error:
            raise ConfigError(f"driver picoquant: needs the package snapi: {error}") from error
        self._serial = serial
        self._device: Any = None
        self._channels: tuple[int, ...] = ()

    def facts(self) -> TaggerFacts:
        return TaggerFacts(
            vendor=VENDOR,
            model=str(self._opened().deviceConfig["Model"]),
            tick=Fraction(1),
            rate_max_hz=RATE_MAX_HZ,
        )

    def start(self, seconds: float, channels: tuple[int, ...]) -> None:
        self._channels = channels
        unfold = self._opened().unfold
        if not unfold.measure(ceil(seconds * MS_PER_S), EVENTS_MAX, False, False):
            raise LinkDown(f"{VENDOR}: the measurement did not begin")

    def is_over(self) -> bool:
        return self._device is None or bool(self._device.unfold.isFinished())

    def recorded(self) -> Recording:
        if self._device is None:
            raise LinkDown(f"{VENDOR}: nothing was recorded")
        n = int(self._device.unfold.numRead())
        times, channels = self._device.unfold.getData(n) if n else ((), ())
        channel = np.array(channels, np.uint8)
        wanted = np.isin(channel, self._channels)
        return Recording(
            time=np.array(times, np.int64)[wanted],
            channel=channel[wanted],
            missed=int(n >= EVENTS_MAX),
        )

    def abort(self) -> None:
        if self._device is not None:
            self._device.unfold.stopMeasure()

    def answer(self) -> None:
        device = self._opened()
        sync, rates = ctypes.c_int(0), (ctypes.c_int * CHANNELS_MAX)()
        if not device.dll.getCountRates(device.device.ID, ctypes.byref(sync), rates):
            raise LinkDown(f"{VENDOR}: the device does not tell its count rates")

    def close(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.unfold.stopMeasure()
            device.closeDevice()

    def _opened(self) -> Any:
        if self._device is None:
            device = self._library.snAPI()
            found = device.getDevice(*([self._serial] if self._serial else []))
            if not found or not device.initDevice(self._constants.MeasMode.T2):
                raise LinkDown(f"{VENDOR}: no device {self._serial or ''} answers")
            self._device = device
        return self._device
