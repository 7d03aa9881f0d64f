"""The site's end of the quantum link, as its file names it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from keyferry.clock import SystemClock
from keyferry.config.device import DeviceSettings, TaggingDevice
from keyferry.config.replay import ReplaySettings
from keyferry.config.sifted import SiftedReplaySettings
from keyferry.config.site import SiteSettings
from keyferry.config.tagger import TaggerSettings
from keyferry.config.vendor import VendorBox
from keyferry.engine.device_changes import DeviceChanges
from keyferry.engine.device_telling import told_each_second
from keyferry.engine.device_watch import DeviceWatch
from qkd_core.errors import ConfigError
from qkd_core.types.device import DeviceFigures
from qkd_core.types.ids import Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.drivers.epochs import EpochEnd
from qkd_sim_link.drivers.picoquant import PicoQuantTagger
from qkd_sim_link.drivers.sifted_replay import SiftedReplay
from qkd_sim_link.drivers.simulated import SimulatedAlice, SimulatedBob, SimulatedTags
from qkd_sim_link.drivers.swabian import SwabianTagger
from qkd_sim_link.drivers.tagger import Tagger, TaggerSource

TAGGERS: Mapping[str, Callable[[str], Tagger]] = {
    "picoquant": PicoQuantTagger,
    "swabian": SwabianTagger,
}


Driver = SimulatedAlice | EpochEnd | SiftedReplay
"""`SimulatedAlice` and `SimulatedBob` of decoy pulses; any other `EpochEnd`, and sifted bits, of
pairs."""


def driver_of(site: SiteSettings) -> Driver:
    """This site's device. Nothing is connected or read yet.

    Raises ConfigError for one that the link's settings do not go with, or whose library is not
    installed.
    """
    device = site.link.device
    if isinstance(device, VendorBox):
        raise ConfigError(f"{site.file}: link.device: a vendor's box gives no detections")
    if isinstance(site.link.settings, PairSettings):
        if isinstance(device, SiftedReplaySettings):
            return SiftedReplay(device.recording, site.side, device.speed)
        return tags_of(device)
    if not isinstance(device, DeviceSettings):
        raise ConfigError(f"{site.file}: link.device: a recording of decoy pulses has no settings")
    kind = SimulatedAlice if site.side is Side.A else SimulatedBob
    return kind(device.socket, device.credential, timeout_s=device.timeout_s)


@contextmanager
def watched_driver(driver: Driver, state_dir: Path) -> Iterator[None]:
    """Tell the site's other processes how the device is, and the log what changes with it."""
    source = driver.source if isinstance(driver, EpochEnd) else driver
    changes = DeviceChanges()
    with DeviceWatch(source.health, SystemClock()) as watch:

        def look() -> DeviceFigures:
            figures = watch.figures()
            changes.note(figures)
            return figures

        with told_each_second(look, state_dir):
            yield


def tags_of(device: TaggingDevice) -> EpochEnd:
    """The device of either end of a link of pairs. Nothing is connected or read yet.

    Raises ConfigError when the library of a vendor is not installed.
    """
    if isinstance(device, ReplaySettings):
        # the readers of recordings are compiled, which other sites need not wait for
        from qkd_sim_link.drivers.replay import Replay, ReplaySource

        replay = Replay(
            path=device.recording,
            form=device.form,
            channels=device.channels,
            speed=device.speed,
            loop=device.loop,
            timeout_s=device.timeout_s,
        )
        return EpochEnd(ReplaySource(replay), device.channels)
    if isinstance(device, TaggerSettings):
        tagger = TAGGERS[device.driver](device.serial)
        return EpochEnd(TaggerSource(tagger, device.channels), device.channels)
    return SimulatedTags(device.socket, device.credential, timeout_s=device.timeout_s)
