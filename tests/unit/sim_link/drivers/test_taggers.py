"""Drivers of vendors' time taggers, against modules with the names of the vendors' libraries."""

import sys
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from itertools import count
from threading import Event
from time import monotonic, sleep
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from keyferry.bootstrap.devices import tags_of
from keyferry.config.tagger import TaggerSettings
from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.conformance.one_end import OneEnd
from qkd_sim_link.conformance.sources import SOURCE_CHECKS
from qkd_sim_link.conformance.verdicts import Verdict, rows
from qkd_sim_link.drivers import picoquant, swabian
from qkd_sim_link.drivers import tagger as tagger_module
from qkd_sim_link.drivers.tagger import TaggerSource

PS_PER_S = 10**12
RATE_HZ = 40_000
CHANNELS = (1, 2, 3, 4)
SETTINGS = PairSettings(link_s=0.1, window_ps=600, hold_off_ps=50_000, resolution_ps=128)
ONE = BlockId(1)


class Light:
    """What the stand-ins detect: random tags, not quite in order."""

    def __init__(self) -> None:
        self.seeds = count(1)

    def tags(self, seconds: float):
        rng = np.random.default_rng(next(self.seeds))
        n = rng.poisson(RATE_HZ * seconds)
        time = np.sort(rng.integers(0, round(seconds * PS_PER_S), n))
        time[::50] += 70_000
        return time, rng.choice(CHANNELS, n)


LIGHT = Light()


class Buffer:
    def __init__(self, time, channel, types=None, missed=None) -> None:
        self._told = time, channel, types, missed

    def getTimestamps(self):
        return self._told[0]

    def getChannels(self):
        return self._told[1]

    def getEventTypes(self):
        types = self._told[2]
        return np.zeros(self._told[0].size, np.uint8) if types is None else types

    def getMissedEvents(self):
        missed = self._told[3]
        return np.zeros(self._told[0].size, np.uint16) if missed is None else missed


class TimeTagStream:
    spoilt = staticmethod(Buffer)

    def __init__(self, tagger, n_max_events, channels) -> None:
        assert tagger.open
        assert n_max_events > 0
        assert sorted(channels) == list(CHANNELS)

    def startFor(self, duration_ps):
        self.until = monotonic() + duration_ps / PS_PER_S
        self.found = LIGHT.tags(duration_ps / PS_PER_S)

    def isRunning(self):
        return monotonic() < self.until

    def getData(self):
        return type(self).spoilt(*self.found)

    def stop(self):
        self.until = 0.0


class SwabianDevice:
    open = True
    plugged = True

    def getModel(self):
        return "Time Tagger Ultra"

    def getSensorData(self):
        self.require_plugged()
        return [{"FPGA board": {"FPGA Temp": 41.0}}]

    def getConfiguration(self):
        self.require_plugged()
        return {"fpga devices": []}

    def require_plugged(self):
        assert self.open
        if not self.plugged:
            raise RuntimeError("USB error: no device")


class WithoutSensors(SwabianDevice):
    def getSensorData(self):
        raise RuntimeError("The Time Tagger 20 does not support sensor readout")


def swabian_library(device=SwabianDevice) -> dict[str, ModuleType]:
    library = ModuleType("Swabian.TimeTagger")

    def create(serial=""):
        if serial == "gone":
            raise RuntimeError("No Time Tagger connected")
        return device()

    library.createTimeTagger = create
    library.freeTimeTagger = lambda device: setattr(device, "open", False)
    library.TimeTagStream = type("TimeTagStream", (TimeTagStream,), {})
    package = ModuleType("Swabian")
    package.TimeTagger = library
    return {"Swabian": package, "Swabian.TimeTagger": library}


class Unfold:
    def measure(self, acq_time_ms, size, wait_finished, save_ptu):
        assert (wait_finished, save_ptu) == (False, False)
        seconds = acq_time_ms / 1000
        self.until = monotonic() + seconds
        self.time, channel = LIGHT.tags(seconds)
        self.channel = np.where(
            np.arange(channel.size) % 97 == 0, 0, channel
        )  # sync: not asked for
        self.size = size
        return True

    def isFinished(self):
        return monotonic() >= self.until

    def numRead(self):
        return self.time.size

    def getData(self, n):
        return self.time[:n].astype(np.uint64), self.channel[:n].astype(np.uint8)

    def stopMeasure(self):
        self.until = 0.0


class HarpLibrary:
    """What is below the wrapper: 0 for a device that is gone."""

    plugged = True

    def getCountRates(self, name, sync, rates):
        assert name == ""
        assert len(rates) == 64
        return int(self.plugged)


class Harp:
    present = True

    def __init__(self) -> None:
        self.unfold = Unfold()
        self.dll = HarpLibrary()
        self.device = SimpleNamespace(ID="")
        self.deviceConfig = {"Model": "MultiHarp 150 4P"}

    def getDevice(self, *serial):
        return self.present and serial != ("gone",)

    def initDevice(self, mode):
        return mode is MeasMode.T2

    def closeDevice(self):
        pass


class MeasMode(Enum):
    T2 = 2


def picoquant_library() -> dict[str, ModuleType]:
    main, constants = ModuleType("snAPI.Main"), ModuleType("snAPI.Constants")
    main.snAPI, constants.MeasMode = Harp, MeasMode
    return {"snAPI": ModuleType("snAPI"), "snAPI.Main": main, "snAPI.Constants": constants}


KINDS = {
    "swabian": (swabian_library, swabian.SwabianTagger),
    "picoquant": (picoquant_library, picoquant.PicoQuantTagger),
}


@pytest.fixture(params=KINDS)
def name(request, monkeypatch):
    """Of a vendor whose library can be imported."""
    library, _ = KINDS[request.param]
    for module, stand_in in library().items():
        monkeypatch.setitem(sys.modules, module, stand_in)
    return request.param


@pytest.fixture
def kind(name):
    return KINDS[name][1]


def test_a_vendor_s_tagger_keeps_the_contract(kind):
    end = OneEnd(
        source=TaggerSource(kind(), CHANNELS),
        settings=SETTINGS,
        block_ids=map(BlockId, count(1)),
        patience_s=1.0,
    )
    found = list(rows("end", SOURCE_CHECKS, end))

    assert [row for row in found if row.verdict is not Verdict.PASS] == []


def test_a_site_file_s_tagger_gives_the_epochs_of_pairs(name):
    end = tags_of(TaggerSettings(driver=name, serial="", channels=(4, 3, 2, 1)))
    end.arm(ONE, SETTINGS)
    found = end.tags(ONE)

    assert found.time_ps.size > 0.9 * RATE_HZ * SETTINGS.link_s * 0.97
    assert np.all(np.diff(found.time_ps) >= 0)
    assert set(found.detector.tolist()) == {0, 1, 2, 3}
    assert found.provenance is Provenance.DEVICE


def test_a_device_that_is_not_there_is_a_link_that_is_down(kind):
    source = TaggerSource(kind("gone"), CHANNELS)
    with pytest.raises(LinkDown):
        source.describe()
    with pytest.raises(LinkDown):
        source.arm(ONE, SETTINGS)


@pytest.mark.parametrize("unplugged", [SwabianDevice, WithoutSensors, HarpLibrary])
def test_health_is_asked_of_the_device(unplugged, monkeypatch):
    device = SwabianDevice if unplugged is HarpLibrary else unplugged
    for module, stand_in in (swabian_library(device) | picoquant_library()).items():
        monkeypatch.setitem(sys.modules, module, stand_in)
    tagger = picoquant.PicoQuantTagger if unplugged is HarpLibrary else swabian.SwabianTagger
    source = TaggerSource(tagger(), CHANNELS)
    assert source.health().counts == (0, 0, 0, 0)

    monkeypatch.setattr(unplugged, "plugged", False)
    with pytest.raises(LinkDown, match=r"Swabian Instruments: USB|PicoQuant: the device does not"):
        source.health()
    monkeypatch.setattr(unplugged, "plugged", True)
    assert source.health().missed == 0


def test_a_device_that_was_away_is_taken_again(monkeypatch):
    """Pulled out while it records: the epoch is lost, its handle is let go, the next is made."""
    for module, stand_in in swabian_library().items():
        monkeypatch.setitem(sys.modules, module, stand_in)
    taken = []
    library = sys.modules["Swabian.TimeTagger"]
    create = library.createTimeTagger
    library.createTimeTagger = lambda serial="": taken.append(create(serial)) or taken[-1]
    source = TaggerSource(swabian.SwabianTagger(), CHANNELS)
    source.arm(ONE, SETTINGS)

    def unplugged(_stream):
        raise RuntimeError("USB error: no device")

    with monkeypatch.context() as away:
        away.setattr(library.TimeTagStream, "isRunning", unplugged)
        with pytest.raises(LinkDown, match="Swabian Instruments: USB error"):
            list(source.batches())
    source.arm(BlockId(2), SETTINGS)
    source.credit(1000)

    assert sum(batch.header.n for batch in source.batches()) > 0
    assert [device.open for device in taken] == [False, True]


def test_a_device_that_hangs_when_it_is_asked_holds_up_nothing_for_long(monkeypatch):
    for module, stand_in in swabian_library().items():
        monkeypatch.setitem(sys.modules, module, stand_in)
    monkeypatch.setattr(tagger_module, "CALL_S", 0.1)
    source, asked, awake = TaggerSource(swabian.SwabianTagger(), CHANNELS), Event(), Event()
    source.arm(ONE, SETTINGS)

    def hanging(device):
        asked.set()
        awake.wait(5)
        return [{}]

    monkeypatch.setattr(SwabianDevice, "getSensorData", hanging)
    with ThreadPoolExecutor(1) as pool:
        health = pool.submit(source.health)
        assert asked.wait(5)
        for call in (source.stop, source.describe):
            with pytest.raises(LinkDown, match=r"has not come back for 0\.1 s"):
                call()
        awake.set()
        assert health.result(5).missed == 0
    source.stop()


def test_health_is_told_of_no_device_that_is_not_there(kind):
    with pytest.raises(LinkDown):
        TaggerSource(kind("gone"), CHANNELS).health()


def test_health_takes_a_device_once_beside_a_recording(kind, monkeypatch):
    """The watch and the engine begin together; a library gives a device to one of them."""
    tagger = kind()
    opening, times_taken = tagger._opened, count(1)
    taken = []

    def slowly():
        if tagger._device is None:
            taken.append(next(times_taken))
            sleep(0.05)
        return opening()

    monkeypatch.setattr(tagger, "_opened", slowly)
    source = TaggerSource(tagger, CHANNELS)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(source.health), pool.submit(source.arm, ONE, SETTINGS)]
        for each in asked:
            each.result(5)
    assert taken == [1]


def test_a_tagger_alone_makes_no_block_of_pulses(kind):
    pulses = DecoySettings(
        clock_hz=1e9,
        n_pulses=1000,
        intensities=(0.4, 0.1),
        probabilities=(0.3, 0.7),
        p_key_basis=0.8,
    )
    with pytest.raises(LinkDown, match="when the first pulse of a block is sent"):
        TaggerSource(kind(), CHANNELS).arm(ONE, pulses)


@pytest.mark.parametrize("name_of_kind", KINDS)
def test_a_library_that_is_not_installed_is_named(name_of_kind, monkeypatch):
    for module in ("Swabian", "Swabian.TimeTagger", "snAPI", "snAPI.Main"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"driver {name_of_kind}: needs the package"):
        KINDS[name_of_kind][1]()


def lost_of(tagger) -> str:
    source = TaggerSource(tagger, CHANNELS)
    source.arm(ONE, SETTINGS)
    source.credit(1)
    [batch] = source.batches()
    assert batch.tags.size == 0
    assert source.health().missed == batch.header.missed
    return batch.header.missed


def overflowed(time, channel):
    types = np.zeros(time.size, np.uint8)
    types[7:9] = 2, 3
    return Buffer(time, channel, types)


def with_missed_events(time, channel):
    types, missed = np.zeros(time.size, np.uint8), np.zeros(time.size, np.uint16)
    types[5], missed[5] = 4, 40
    return Buffer(time, channel, types, missed)


@pytest.mark.parametrize(("spoilt", "missed"), [(overflowed, 2), (with_missed_events, 41)])
def test_an_overflow_of_a_swabian_tagger_drops_the_epoch(spoilt, missed, monkeypatch):
    modules = swabian_library()
    modules["Swabian.TimeTagger"].TimeTagStream.spoilt = staticmethod(spoilt)
    for module, stand_in in modules.items():
        monkeypatch.setitem(sys.modules, module, stand_in)

    assert lost_of(swabian.SwabianTagger()) == missed


@pytest.mark.parametrize("module", [swabian, picoquant])
def test_a_full_buffer_drops_the_epoch(module, monkeypatch):
    for name, stand_in in (swabian_library() | picoquant_library()).items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr(module, "EVENTS_MAX", 100)
    tagger = swabian.SwabianTagger if module is swabian else picoquant.PicoQuantTagger

    assert lost_of(tagger()) == 1
