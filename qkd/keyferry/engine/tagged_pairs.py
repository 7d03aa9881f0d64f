"""The two ends of a link whose devices give time tags: coincidences are found over the channel."""

import logging
from dataclasses import dataclass, field

from keyferry.engine.block import watched_urandom
from qkd_core.photons.clock import ClockRelation, Times, acquired, tracked
from qkd_core.photons.coincidences import Events, events_of, match_alice, match_bob
from qkd_core.photons.entropy import Entropy
from qkd_core.photons.pair_figures import coincidences_of
from qkd_core.ports import ClassicalChannel, TagDevice
from qkd_core.ports.link import Outcomes
from qkd_core.types.bits import wipe
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import PairSettings

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class TaggedEnd:
    """What the two ends share (`PairDevice`, all but the outcomes)."""

    device: TagDevice
    settings: PairSettings
    entropy: Entropy = field(default_factory=watched_urandom)

    @property
    def provenance(self) -> Provenance:
        return self.device.provenance

    def arm(self, block_id: BlockId, settings: PairSettings) -> None:
        self.device.arm(block_id, settings)

    def events(self, block_id: BlockId) -> Events:
        """Raises LinkError."""
        tags = self.device.tags(block_id)
        try:
            return events_of(tags, self.settings, self.entropy)
        finally:
            wipe(tags.detector)


@dataclass(slots=True, kw_only=True)
class TaggedAlice(TaggedEnd):
    """Alice's end; it finds how Bob's clock runs, and keeps track of it from block to block."""

    _clock: ClockRelation | None = None

    def outcomes(self, block_id: BlockId, channel: ClassicalChannel) -> Outcomes:
        """As `PairDevice`; ClockNotFound when no coincidences stand out."""
        events = self.events(block_id)
        try:
            matched = match_alice(events, channel, self.settings, self._clock_of)
        finally:
            wipe(events.outcome)
        log.info("block %d: %s", block_id, coincidences_of(matched, self.settings))
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
        """As `PairDevice`."""
        events = self.events(block_id)
        try:
            return match_bob(events, channel, self.settings)
        finally:
            wipe(events.outcome)
