"""Two ends of a channel in one process: queues for the wire, an in-memory store at each side."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Empty, Queue

import numpy as np
import pytest

from keyferry.channel.conversation import Conversation, Line
from keyferry.channel.frames import Frame
from keyferry.store.memory import MemoryStore
from qkd_core.errors import ChannelError
from qkd_core.photons.authentication import Authenticator
from qkd_core.types.authentication import PRESHARED_BYTES
from qkd_core.types.ids import BlockId, KmeId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockLayout, NewBlock

LINK = LinkId("fibre-ab")


class FixedClock:
    def now(self) -> float:
        return 1.8e9


@dataclass
class Wire:
    """One end. ``altered`` may change or drop frames on their way to this end."""

    outgoing: Queue[Frame]
    incoming: Queue[Frame]
    sent: list[Frame] = field(default_factory=list)
    altered: Callable[[Frame], Frame] = lambda frame: frame

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)
        self.outgoing.put(frame)

    def receive(self, timeout_s: float) -> Frame:
        try:
            return self.altered(self.incoming.get(timeout=timeout_s))
        except Empty:
            raise ChannelError("the peer is silent") from None


@dataclass
class End:
    store: MemoryStore
    wire: Wire
    line: Line

    def talk(self, block: int = 1, settled: int | None = None) -> Conversation:
        return Conversation(
            self.line, BlockId(block), None if settled is None else BlockId(settled)
        )


@pytest.fixture
def ends() -> Iterator[dict[Side, End]]:
    secret = np.random.default_rng(7).bytes(PRESHARED_BYTES)
    wires: dict[Side, Queue[Frame]] = {side: Queue() for side in Side}
    made = {}
    for side in Side:
        store = MemoryStore(
            link_id=LINK, side=side, kme_id=KmeId(f"kme-{side}"), clock=FixedClock()
        )
        store.pads.install_preshared(secret)
        wire = Wire(outgoing=wires[side.other], incoming=wires[side])
        line = Line(wire, Authenticator(side, store.pads), LINK, timeout_s=5.0)
        made[side] = End(store, wire, line)
    yield made


def make_block(number: int, segment_pads: int = 32) -> NewBlock:
    """Equal bits for equal numbers, as distillation leaves them at both sites."""
    bits = np.random.default_rng(number).integers(0, 2**64, 256, dtype=np.uint64)
    return NewBlock(
        block_id=BlockId(number),
        link_id=LINK,
        layout=BlockLayout(n_secret=64 * bits.size, segment_pads=segment_pads),
        bits=bits,
        provenance=Provenance.SIMULATED,
        plan_digest="plan",
        tallies_digest="tallies",
        certificate="{}",
        qber=0.01,
        link_s=1.0,
    )


@pytest.fixture
def block() -> Callable[..., NewBlock]:
    return make_block
