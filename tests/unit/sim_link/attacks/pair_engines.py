"""Two whole engines of a link of pairs in one process, on simulated fibres with an Eve.

She hears all that the engines say, and what her attack on a receiver tells her is in `sink`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from keyferry.channel.frames import Frame
from keyferry.engine import plan_message
from keyferry.engine.block import new_block
from keyferry.engine.pairs import LearningEnd
from keyferry.engine.planning import PadRefill
from keyferry.engine.tagged_pairs import TaggedAlice, TaggedBob
from qkd_core.photons.coincidences import events_of, match_bob
from qkd_core.photons.distil import distil_bob
from qkd_core.photons.pair_monitors import PairWatch
from qkd_core.photons.pair_sifting import sift_pairs
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.keys import NewBlock
from qkd_core.types.monitors import PairMonitorSettings
from qkd_core.types.plans import PairSettings
from qkd_sim_link.attacks.eve import PairEve
from qkd_sim_link.attacks.truth import OverheardClicks
from qkd_sim_link.physics.pairs import expected_pair_model
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.serving.rendezvous import Rendezvous

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "channel"))
from decoy_engines import Heard
from two_engines import CASCADE, Pair

del sys.path[:2]

SHIPPED = load_link("entangled-25km")
SCENARIO = replace(
    SHIPPED,
    source=replace(SHIPPED.source, pair_rate_hz=1e7),
    receiver=replace(SHIPPED.receiver, p_key_basis=0.7),
    settings=replace(SHIPPED.settings, link_s=0.8),
)
START_S = 30.0


@dataclass
class TagEnd:
    """Either end's device, without a socket; ``found`` keeps what it gave, ``given`` no copy."""

    link: Rendezvous
    side: Side
    provenance: Provenance = Provenance.SIMULATED
    found: dict[BlockId, Detections] = field(default_factory=dict)
    given: dict[BlockId, Detections] = field(default_factory=dict)

    def arm(self, block_id: BlockId, settings: PairSettings) -> None:
        self.link.arm(self.side, block_id, settings)

    def tags(self, block_id: BlockId) -> Detections:
        time_ps, detector = self.link.detections(block_id, START_S, self.side)
        self.found[block_id] = Detections(block_id, time_ps, detector.copy(), self.provenance)
        self.given[block_id] = Detections(block_id, time_ps, detector, self.provenance)
        return self.given[block_id]


class TaggedPair(Pair):
    """Both engines; ``monitors`` None leaves both receivers unwatched."""

    def __init__(self, eve: PairEve | None, monitors: PairMonitorSettings | None) -> None:
        self.heard: list[tuple[Side, Frame]] = []
        super().__init__(CASCADE, tamper=self.listened)
        self.link = Rendezvous(SCENARIO, time_scale=100.0, seed=6, eve=eve)
        settings = SCENARIO.settings
        for site in self.sites.values():
            site.use(settings=settings)
            site.engine.timeout_s = START_S
            site.device = TagEnd(self.link, site.side)
            kind = TaggedAlice if site.side is Side.A else TaggedBob
            watch = monitors and PairWatch(monitors)
            site.engine.end.link.device = kind(
                device=site.device,
                settings=settings,
                watch=watch,
                note=site.store.blocks.note_light,
            )
        alice = self.a.engine.end
        alice.link.configured = expected_pair_model(SCENARIO)
        alice.link.refill = PadRefill(pads_per_block=0)
        self.a.engine.end = LearningEnd(end=alice, link=alice.link)

    def __exit__(self, *exc) -> None:
        self.link.close()
        super().__exit__(*exc)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        super().until(lambda: holds() or any(self.errors()), what)
        assert not any(self.errors()), self.errors()

    def listened(self, receiver: Side, frame: Frame) -> list[Frame]:
        self.heard.append((receiver, frame))
        return [frame]

    def block(self, number: int) -> Heard:
        return Heard([each for each in self.heard if each[1].header.block_id == number])


def key_of_eve(heard: Heard, overheard: OverheardClicks) -> NewBlock:
    """What Bob's own steps make of what Eve knows: his clicks, and all that was said."""
    plan = plan_message.decode(heard.bodies(MessageKind.PLAN, Side.B)[0])
    tags = Detections(
        plan.block_id, overheard.time_ps, overheard.detector.copy(), Provenance.SIMULATED
    )
    events = events_of(tags, plan.settings, lambda n: bytes(n))
    outcomes = match_bob(events, heard, plan.settings)
    sifted = sift_pairs(outcomes, heard, plan.block_id, Side.B)
    return new_block(distil_bob(heard, plan, sifted, lambda n: bytes(n)))
