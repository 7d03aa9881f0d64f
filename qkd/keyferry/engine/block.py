"""One block from its plan to both stores.

The straight line of each side: plan, sifted bits, distillation, health tests of the key,
*pending*, confirmation, *available*. Where plans and sifted bits come from is the link's affair:
`decoy`, `pairs`, `vendor_ends`.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from keyferry.channel.conversation import Conversation
from keyferry.engine import plan_message
from keyferry.engine.room import Room
from qkd_core.errors import ChannelError
from qkd_core.photons.distil import distil_alice, distil_bob
from qkd_core.photons.entropy import Entropy
from qkd_core.photons.health_keys import require_random
from qkd_core.photons.health_source import WatchedSource
from qkd_core.ports import BlockStore
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import DistilledBlock, SiftedKey
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockLayout, NewBlock
from qkd_core.types.plans import BlockPlan

LinkIsFree = Callable[[], None]


class LinkEnd(Protocol):
    """What the link loop asks of either side."""

    @property
    def side(self) -> Side: ...

    def run_block(
        self, talk: Conversation, block_id: BlockId, link_is_free: LinkIsFree
    ) -> DistilledBlock:
        """One block, up to *available*; ``link_is_free`` is called when the next may begin.

        Raises BlockDiscarded, ChannelError, LinkError.
        """


@runtime_checkable
class WaitingEnd(Protocol):
    """An ability of some ends: to have nothing for a while that a block could be made of."""

    def must_wait(self) -> bool:
        """Whether no block should be begun now. Asked between blocks only."""


class AliceLink(Protocol):
    """Alice's end of the link: it plans and prepares."""

    def plan(self, block_id: BlockId) -> BlockPlan:
        """Raises PlanRefused, ProvenanceRefused, LinkError."""

    def sifted(self, talk: Conversation, plan: BlockPlan) -> SiftedKey:
        """Run the link for this block, and sift. Raises BlockDiscarded, ChannelError, LinkError."""


class BobLink(Protocol):
    """Bob's end of the link: it takes no plan on trust."""

    def check(self, plan: BlockPlan, block_id: BlockId) -> None:
        """Raises PlanRefused, ProvenanceRefused, LinkError."""

    def sifted(self, talk: Conversation, plan: BlockPlan) -> SiftedKey:
        """As Alice's, at the other end."""


def watched_urandom() -> Entropy:
    """The operating system's randomness, for as long as it looks like it. Raises EntropyFailed."""
    return WatchedSource(os.urandom)


@dataclass(slots=True, kw_only=True)
class AliceEnd:
    """The side that plans and prepares."""

    link: AliceLink
    blocks: BlockStore
    room: Room
    entropy: Entropy = field(default_factory=watched_urandom)
    side: Side = Side.A

    def run_block(
        self, talk: Conversation, block_id: BlockId, link_is_free: LinkIsFree
    ) -> DistilledBlock:
        plan = self.link.plan(block_id)
        self.blocks.begin(block_id, plan.policy)
        talk.send_tagged(MessageKind.PLAN, plan_message.encode(plan))
        sifted = self.link.sifted(talk, plan)
        link_is_free()
        block = distil_alice(talk, plan, sifted, self.entropy)
        require_random(block.key)
        store_and_confirm(talk, self.blocks, block, self.room)
        return block


@dataclass(slots=True, kw_only=True)
class BobEnd:
    """The side that detects."""

    link: BobLink
    blocks: BlockStore
    room: Room
    entropy: Entropy = field(default_factory=watched_urandom)
    side: Side = Side.B

    def run_block(
        self, talk: Conversation, block_id: BlockId, link_is_free: LinkIsFree
    ) -> DistilledBlock:
        body = talk.receive_tagged(MessageKind.PLAN)
        plan = plan_message.decode(bytes(body))
        self.link.check(plan, block_id)
        self.blocks.begin(block_id, plan.policy)
        sifted = self.link.sifted(talk, plan)
        link_is_free()
        block = distil_bob(talk, plan, sifted, self.entropy)
        require_random(block.key)
        store_and_confirm(talk, self.blocks, block, self.room)
        return block


def store_and_confirm(
    talk: Conversation, blocks: BlockStore, block: DistilledBlock, room: Room
) -> None:
    """Keep the block as pending, exchange confirmations, then make it available.

    A crash in between leaves the block pending; the engines settle it when they meet again.
    Raises ChannelError; StoreFull when the block is to be dropped, which the peer is then told.
    """
    new = new_block(block)
    room.require(new.layout.stored_bytes)
    blocks.store_pending(new)
    mine = confirmation(new)
    talk.send_tagged(MessageKind.CONFIRMATION, mine)
    theirs = talk.receive_tagged(MessageKind.CONFIRMATION)
    if theirs != mine:
        blocks.destroy(new.block_id, "the confirmations differ")
        raise ChannelError(f"the peer confirms another block {new.block_id} than this site has")
    blocks.make_available(new.block_id)


def confirmation(block: NewBlock) -> bytes:
    """Equal at both sites for equal blocks; never a digest of the key."""
    half_a, half_b = block.layout.half(Side.A), block.layout.half(Side.B)
    return json.dumps(
        {
            "block": block.block_id,
            "plan": block.plan_digest,
            "tallies": block.tallies_digest,
            "n_secret": block.layout.n_secret,
            "segment_pads": block.layout.segment_pads,
            "half_a": half_a,
            "half_b": half_b,
        },
        sort_keys=True,
    ).encode()


def new_block(block: DistilledBlock) -> NewBlock:
    """The block as the store takes it."""
    plan = block.plan
    return NewBlock(
        block_id=plan.block_id,
        link_id=plan.link_id,
        layout=BlockLayout(n_secret=block.key.n_bits, segment_pads=plan.segment_pads),
        bits=block.key.bits,
        provenance=plan.provenance,
        plan_digest=plan.digest,
        tallies_digest=block.tallies.digest,
        certificate=json.dumps(block.certificate(), sort_keys=True),
        qber=block.n_errors / max(1, block.n_sifted),
        link_s=plan.link_s,
    )
