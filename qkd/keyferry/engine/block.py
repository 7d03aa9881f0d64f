"""One block from its plan to both stores.

The straight line of each side: plan, pulses, distillation, *pending*, confirmation, *available*.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from keyferry.channel.conversation import Conversation
from keyferry.engine import plan_message
from keyferry.engine.room import Room
from qkd_core.errors import ChannelError, PlanRefused, ProvenanceRefused
from qkd_core.photons.distil import distil_alice, distil_bob
from qkd_core.ports import AliceDevice, BlockStore, BobDevice, PadStore
from qkd_core.proofs.expectation import learn
from qkd_core.proofs.plan import PlanRequest, Terms, check_plan, plan_block
from qkd_core.types.authentication import Lane, MessageKind
from qkd_core.types.blocks import (
    BlockPlan,
    DecoySettings,
    DistilledBlock,
    LinkModel,
    SecurityPolicy,
    Tallies,
)
from qkd_core.types.ids import BlockId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockLayout, NewBlock

SEGMENT_PADS_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTerms:
    """What both sites have agreed for their link; ``config_digest`` is over all of it."""

    link_id: LinkId
    settings: DecoySettings
    policy: SecurityPolicy
    accept_provenance: frozenset[Provenance]
    config_digest: str

    def planning(self, segment_pads: int) -> Terms:
        """As the planner takes them."""
        return Terms(
            link_id=self.link_id,
            settings=self.settings,
            policy=self.policy,
            segment_pads=segment_pads,
            config_digest=self.config_digest,
        )

    def require(self, provenance: Provenance) -> None:
        """Raises ProvenanceRefused unless this site takes such bits."""
        if provenance not in self.accept_provenance:
            accepted = ", ".join(sorted(self.accept_provenance)) or "nothing"
            raise ProvenanceRefused(
                f"the link's bits are {provenance.value}, accept_provenance lists {accepted}"
            )


class LinkEnd(Protocol):
    """What the link loop asks of either side."""

    @property
    def side(self) -> Side: ...

    def run_block(self, talk: Conversation, block_id: BlockId) -> DistilledBlock:
        """One block, up to *available*. Raises BlockDiscarded, ChannelError, LinkError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PadRefill:
    """How the authentication pool is kept full: pads per block while fewer than ``enough``."""

    pads_per_block: int = 32
    enough: int = 4096


@dataclass(slots=True, kw_only=True)
class AliceEnd:
    """The side that plans and prepares. ``configured``: the model before any block is seen."""

    terms: LinkTerms
    device: AliceDevice
    blocks: BlockStore
    pads: PadStore
    configured: LinkModel
    room: Room
    refill: PadRefill = PadRefill()
    entropy: Callable[[int], bytes] = os.urandom
    side: Side = Side.A
    _learned: LinkModel | None = None

    def run_block(self, talk: Conversation, block_id: BlockId) -> DistilledBlock:
        plan = self._plan(block_id)
        self.blocks.note_used(block_id)
        talk.send_tagged(MessageKind.PLAN, plan_message.encode(plan))
        self.device.arm(block_id, plan.settings)
        talk.send(MessageKind.START, b"")
        block = distil_alice(
            talk,
            plan,
            lambda slots: self.device.settings(block_id, slots),
            self.entropy,
            self._learn,
        )
        store_and_confirm(talk, self.blocks, block, self.room)
        return block

    def _learn(self, tallies: Tallies) -> None:
        """For the blocks to come, also from one that is dropped; never for the block itself."""
        self._learned = learn(self._learned or self.configured, tallies, self.terms.settings)

    def _plan(self, block_id: BlockId) -> BlockPlan:
        """Raises PlanRefused when no key can be had, ProvenanceRefused.

        A link that was dark has taught a model that promises no key. The next block is then
        planned as if nothing had been learned: it is dropped while the link stays dark, and
        gives key when the light is back.
        """
        provenance = self.device.provenance
        self.terms.require(provenance)
        short = any(self.pads.remaining(side, Lane.POOL) < self.refill.enough for side in Side)
        request = PlanRequest(
            terms=self.terms.planning(self.refill.pads_per_block if short else 0),
            model=self._learned or self.configured,
            block_id=block_id,
            provenance=provenance,
        )
        try:
            return plan_block(request)
        except PlanRefused:
            self._learned = None
            return plan_block(replace(request, model=self.configured))


@dataclass(slots=True, kw_only=True)
class BobEnd:
    """The side that detects. It takes no plan on trust."""

    terms: LinkTerms
    device: BobDevice
    blocks: BlockStore
    room: Room
    entropy: Callable[[int], bytes] = os.urandom
    side: Side = Side.B

    def run_block(self, talk: Conversation, block_id: BlockId) -> DistilledBlock:
        body = talk.receive_tagged(MessageKind.PLAN)
        self.blocks.note_used(block_id)
        plan = received_plan(body, self.terms, block_id)
        if plan.provenance is not self.device.provenance:
            raise PlanRefused(
                f"the plan says {plan.provenance}, the device here is {self.device.provenance}"
            )
        self.device.arm(block_id, plan.settings)
        talk.receive(MessageKind.START)  # a peer that died is noticed here, not at the device
        block = distil_bob(talk, plan, self.device.detections(block_id), self.entropy)
        store_and_confirm(talk, self.blocks, block, self.room)
        return block


def received_plan(body: bytes, terms: LinkTerms, block_id: BlockId) -> BlockPlan:
    """The peer's plan, re-derived here. Raises ChannelError, PlanRefused, ProvenanceRefused.

    How many pads a block refills is for the planner to say, up to a limit.
    """
    plan = plan_message.decode(body)
    if plan.block_id != block_id:
        raise PlanRefused(f"the plan is for block {plan.block_id}, {block_id} is on")
    if not 0 <= plan.segment_pads <= SEGMENT_PADS_MAX:
        raise PlanRefused(f"{plan.segment_pads} pads to refill, the limit is {SEGMENT_PADS_MAX}")
    check_plan(plan, terms.planning(plan.segment_pads), terms.accept_provenance)
    return plan


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
        link_s=plan.settings.n_pulses / plan.settings.clock_hz,
    )
