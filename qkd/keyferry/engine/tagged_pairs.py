"""The two ends of a link whose devices give time tags: coincidences are found over the channel."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from keyferry.engine.block import watched_urandom
from qkd_core.errors import MonitorTripped
from qkd_core.photons.clock import ClockRelation, Times, acquired, tracked
from qkd_core.photons.coincidences import Events, events_of, match_alice, match_bob
from qkd_core.photons.entropy import Entropy
from qkd_core.photons.pair_figures import coincidences_of
from qkd_core.photons.pair_monitors import Clicks, PairWatch
from qkd_core.ports import ClassicalChannel, TagDevice
from qkd_core.ports.link import Outcomes
from qkd_core.types.bits import wipe
from qkd_core.types.figures import PairLight
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import PairSettings

log = logging.getLogger(__name__)


def unnoted(_light: PairLight) -> None:
    """Keep nothing but the line in the log."""


@dataclass(slots=True, kw_only=True)
class TaggedEnd:
    """What the two ends share (`PairDevice`, all but the outcomes).

    watch  the monitors of its detectors; None for none
    note   keeps what a block shows of its light
    """

    device: TagDevice
    settings: PairSettings
    watch: PairWatch | None = None
    note: Callable[[PairLight], None] = unnoted
    entropy: Entropy = field(default_factory=watched_urandom)

    @property
    def provenance(self) -> Provenance:
        return self.device.provenance

    def arm(self, block_id: BlockId, settings: PairSettings) -> None:
        self.device.arm(block_id, settings)

    def seen(self, block_id: BlockId) -> tuple[Events, PairLight]:
        """The events of the block, which no monitor of this end objects to.

        Raises LinkError, MonitorTripped.
        """
        tags = self.device.tags(block_id)
        try:
            events = events_of(tags, self.settings, self.entropy)
            clicks = Clicks.of(tags, self.settings)
        finally:
            wipe(tags.detector)
        light = PairLight(
            block_id=block_id,
            rate_hz=clicks.rate_hz,
            double_clicks=clicks.n_doubles,
            double_clicks_expected=clicks.doubles_expected,
        )
        try:
            if self.watch is not None:
                self.watch.require_clicks(clicks)
        except MonitorTripped:
            wipe(events.outcome)
            self.tell(light)
            raise
        return events, light

    def tell(self, light: PairLight) -> None:
        log.info("block %d: %s", light.block_id, light)
        self.note(light)


@dataclass(slots=True, kw_only=True)
class TaggedAlice(TaggedEnd):
    """Alice's end; it finds how Bob's clock runs, and keeps track of it from block to block."""

    _clock: ClockRelation | None = None

    def outcomes(self, block_id: BlockId, channel: ClassicalChannel) -> Outcomes:
        """As `PairDevice`; ClockNotFound when no coincidences stand out; MonitorTripped."""
        events, light = self.seen(block_id)
        try:
            matched = match_alice(events, channel, self.settings, self._clock_of)
        finally:
            wipe(events.outcome)
        try:
            self.tell(replace(light, coincidences=coincidences_of(matched, self.settings)))
            if self.watch is not None:
                self.watch.require_lags(matched.lags, self.settings.window_ps)
        except BaseException:
            wipe(matched.outcomes.key)
            raise
        finally:
            wipe(matched.lags.outcome)
        return matched.outcomes

    def _clock_of(self, alice_ps: Times, bob_ps: Times) -> ClockRelation:
        """Where the last block left it, or from nothing. Raises ClockNotFound."""
        found = self._clock and tracked(alice_ps, bob_ps, self._clock)
        if found is None:
            self._clock = None
            found = acquired(alice_ps, bob_ps)
            log.info("the peer's clock is found: %+.9f s, %+.4g ppm", *found.told(int(alice_ps[0])))
        self._clock = found
        return found


class TaggedBob(TaggedEnd):
    """Bob's end."""

    def outcomes(self, block_id: BlockId, channel: ClassicalChannel) -> Outcomes:
        """As `PairDevice`; MonitorTripped."""
        events, light = self.seen(block_id)
        try:
            self.tell(light)
            return match_bob(events, channel, self.settings)
        finally:
            wipe(events.outcome)
