"""Two whole engines of a link of decoy pulses in one process, on a simulated link with an Eve.

She hears all that the engines say, and what her attack on the devices tells her is in `sink`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from keyferry.channel.frames import Frame
from keyferry.engine import plan_message
from keyferry.engine.block import new_block
from keyferry.engine.decoy import DecoyAlice, DecoyBob
from keyferry.engine.planning import PadRefill
from qkd_core.photons.distil import distil_bob
from qkd_core.photons.monitors import Watch
from qkd_core.photons.sifting import sift_bob
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import Detections, RawKey
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.keys import NewBlock
from qkd_core.types.monitors import MonitorSettings, Shots
from qkd_core.types.plans import DecoySettings
from qkd_sim_link.attacks.eve import Eve
from qkd_sim_link.attacks.truth import Overheard
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import DEFAULT, SelfTestSource, load
from qkd_sim_link.serving.rendezvous import Rendezvous

sys.path.insert(0, str(Path(__file__).parents[2] / "channel"))
from two_engines import LDPC, TERMS, Pair

sys.path.pop(0)

SHIPPED = load(DEFAULT)
SCENARIO = replace(
    SHIPPED,
    source=replace(SHIPPED.source, n_pulses=400_000_000),
    self_test=SelfTestSource(rate_hz=2000.0, seen=0.9, source="made up"),
)
START_S = 30.0


@dataclass
class AliceDevice:
    """Alice's end of the link, without a socket between."""

    link: Rendezvous
    provenance: Provenance = Provenance.SIMULATED

    def arm(self, block_id: BlockId, settings: DecoySettings) -> None:
        self.link.arm(Side.A, block_id, settings)

    def settings(self, block_id: BlockId, slot: np.ndarray) -> np.ndarray:
        return self.link.settings(block_id, slot, START_S)


@dataclass
class BobDevice:
    """Bob's end, with light of its own; ``found`` keeps what it detected, ``given`` no copy."""

    link: Rendezvous
    provenance: Provenance = Provenance.SIMULATED
    found: dict[BlockId, Detections] = field(default_factory=dict)
    given: dict[BlockId, Detections] = field(default_factory=dict)

    def arm(self, block_id: BlockId, settings: DecoySettings) -> None:
        self.link.arm(Side.B, block_id, settings)

    def detections(self, block_id: BlockId) -> Detections:
        time_ps, detector = self.link.detections(block_id, START_S)
        self.found[block_id] = Detections(block_id, time_ps, detector.copy(), self.provenance)
        self.given[block_id] = Detections(block_id, time_ps, detector, self.provenance)
        return self.given[block_id]

    def shots(self, block_id: BlockId) -> Shots:
        return Shots(*self.link.shots(block_id, START_S))


@dataclass
class Heard:
    """One block as Eve hears it, and the channel that she puts herself at the end of.

    Alice's messages come again in their order; what she would say herself, nobody hears.
    """

    frames: list[tuple[Side, Frame]]

    def bodies(self, kind: MessageKind, receiver: Side) -> list[bytes]:
        return [
            bytes(frame.body)
            for side, frame in self.frames
            if side is receiver and frame.header.kind is kind
        ]

    def __post_init__(self) -> None:
        self.left = {kind: iter(self.bodies(kind, Side.B)) for kind in MessageKind}

    def send(self, kind: MessageKind, body: bytes) -> None:
        pass

    def send_tagged(self, kind: MessageKind, body: bytes, *, transcript: bool = False) -> None:
        pass

    def receive(self, kind: MessageKind) -> bytes:
        return next(self.left[kind])

    def receive_tagged(self, kind: MessageKind, *, transcript: bool = False) -> bytes:
        return next(self.left[kind])


class DecoyPair(Pair):
    """Both engines; ``monitors`` None leaves Bob's detectors unwatched."""

    def __init__(self, eve: Eve | None, monitors: MonitorSettings | None) -> None:
        self.heard: list[tuple[Side, Frame]] = []
        super().__init__(LDPC, tamper=self.listened)
        self.link = Rendezvous(SCENARIO, time_scale=1000.0, seed=5, eve=eve)
        self.alice, self.bob = AliceDevice(self.link), BobDevice(self.link)
        terms = replace(TERMS, settings=SCENARIO.source.settings())
        self.a.engine.end.link = DecoyAlice(
            terms=terms,
            device=self.alice,
            pads=self.a.store.pads,
            configured=expected_model(SCENARIO),
            correction=lambda _n, _qber: LDPC,
            refill=PadRefill(pads_per_block=16),
        )
        watch = monitors and Watch(monitors, self.bob)
        self.b.engine.end.link = DecoyBob(terms=terms, device=self.bob, watch=watch)
        for site in self.sites.values():
            site.engine.terms, site.engine.timeout_s = terms, START_S

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


def key_of_eve(heard: Heard, overheard: Overheard) -> NewBlock:
    """What Bob's own steps make of what Eve knows: his clicks, and all that was said."""
    plan = plan_message.decode(heard.bodies(MessageKind.PLAN, Side.B)[0])
    said = heard.bodies(MessageKind.OUTCOMES, Side.A)[0]
    bases = np.unpackbits(np.frombuffer(said, np.uint8), bitorder="little")
    raw = RawKey(
        block_id=plan.block_id,
        slot=overheard.slot,
        basis=bases[: overheard.slot.size],
        bit=overheard.bit,
        intensity=np.zeros(0, np.uint8),
    )
    sifted = sift_bob(raw, heard, plan.settings)
    return new_block(distil_bob(heard, plan, sifted, lambda n: bytes(n)))
