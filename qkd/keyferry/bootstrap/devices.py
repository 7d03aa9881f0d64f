"""The site's end of the quantum link, as its file names it."""

from collections.abc import Callable, Mapping

from keyferry.config.replay import ReplaySettings
from keyferry.config.site import SiteDevice
from keyferry.config.tagger import TaggerSettings
from qkd_core.ports import TagDevice
from qkd_sim_link.drivers.epochs import EpochEnd
from qkd_sim_link.drivers.picoquant import PicoQuantTagger
from qkd_sim_link.drivers.simulated import SimulatedTags
from qkd_sim_link.drivers.swabian import SwabianTagger
from qkd_sim_link.drivers.tagger import Tagger, TaggerSource

TAGGERS: Mapping[str, Callable[[str], Tagger]] = {
    "picoquant": PicoQuantTagger,
    "swabian": SwabianTagger,
}


def tags_of(device: SiteDevice) -> TagDevice:
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
