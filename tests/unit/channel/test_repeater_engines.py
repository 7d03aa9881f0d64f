"""Two whole engines on the tags of a chain of repeaters, in a 60 s block of link time each."""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from keyferry.engine.pairs import LearningEnd
from keyferry.engine.planning import PadRefill
from keyferry.engine.tagged_pairs import TaggedAlice, TaggedBob
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import Provenance, Side
from qkd_sim_link.physics.chain import expected_repeater_model
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.scenarios.repeaters import RepeaterScenario
from qkd_sim_link.serving.devices import BlockDraw, RepeaterDevices

sys.path.insert(0, str(Path(__file__).parent))
from two_engines import Pair

sys.path.pop(0)


@dataclass
class Chain:
    """The devices of both ends; a block is drawn once for both."""

    scenario: RepeaterScenario
    drawn: dict = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.draws = RepeaterDevices(self.scenario, seed=4).block(self.scenario.settings)

    def tags(self, block_id):
        with self.lock:
            if block_id not in self.drawn:
                begun_s = self.scenario.settings.link_s * block_id
                self.drawn[block_id] = self.draws(BlockDraw(block_id, int(block_id), begun_s))
            return self.drawn[block_id]


@dataclass
class End:
    side: Side
    chain: Chain
    provenance: Provenance = Provenance.SIMULATED

    def arm(self, block_id, settings) -> None:
        pass

    def tags(self, block_id) -> Detections:
        time_ps, detector = self.chain.tags(block_id)[self.side]
        return Detections(block_id, time_ps, detector.copy(), self.provenance)


def test_heralded_tags_become_equal_keys_and_the_clock_is_found_once(caplog):
    caplog.set_level(logging.INFO)
    scenario = load_link("repeater-1-hop")
    assert isinstance(scenario, RepeaterScenario)
    pair, chain = Pair(in_flight=1), Chain(scenario)
    for site in pair.sites.values():
        site.use(settings=scenario.settings)
        site.engine.timeout_s = 60.0
        site.device = End(site.side, chain)
        kind = TaggedAlice if site.side is Side.A else TaggedBob
        site.engine.end.link.device = kind(device=site.device, settings=scenario.settings)
    alice = pair.a.engine.end
    alice.link.configured = expected_repeater_model(scenario)
    alice.link.refill = PadRefill(pads_per_block=0)  # the pre-shared pads are enough here
    pair.a.engine.end = LearningEnd(end=alice, link=alice.link)

    with pair:
        pair.until_available(2)

    a, b = pair.a.available(), pair.b.available()
    both = set(a) & set(b)
    assert len(both) >= 2
    assert all(a[number] == b[number] and any(a[number]) for number in both)
    assert pair.errors() == [None, None]
    found = [text for text in caplog.messages if text.startswith("the peer's clock is found")]
    assert len(found) == 1
