"""The two ends of a link of entangled pairs."""

import json
import logging
from dataclasses import dataclass

from keyferry.channel.conversation import Conversation
from keyferry.engine.block import LinkEnd, LinkIsFree
from keyferry.engine.planning import USUAL, PadRefill, require_plan_for
from keyferry.engine.terms import LinkTerms
from qkd_core.errors import PeerAborted, PlanRefused, ReconciliationFailed
from qkd_core.photons.entanglement import entanglement_of
from qkd_core.photons.pair_sifting import sift_pairs
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.ports import PadStore, PairDevice
from qkd_core.proofs.ahead import Ahead, Correction
from qkd_core.proofs.pair_plan import (
    check_pair_plan,
    doubt_key_errors,
    learn_key_errors,
    learn_pairs,
    plan_pairs,
)
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import DistilledBlock, PairTallies, SiftedKey
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import BlockPlan, PairModel, PairPlan

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class PairAlice:
    """The end that plans. ``configured``: the model before any block is seen."""

    terms: LinkTerms
    device: PairDevice
    pads: PadStore
    configured: PairModel
    correction: Correction
    refill: PadRefill = USUAL
    _learned: PairModel | None = None

    def plan(self, block_id: BlockId) -> PairPlan:
        """Raises PlanRefused when no key can be had, ProvenanceRefused, LinkError.

        After a link that was dark the next block is planned as if nothing had been learned.
        """
        provenance = self.device.provenance
        self.terms.require(provenance)
        ahead = Ahead(
            terms=self.terms.planning(self.refill.pads_now(self.pads)),
            correction=self.correction,
            disclosed_expected=disclosed_expected,
            block_id=block_id,
            provenance=provenance,
        )
        try:
            return plan_pairs(ahead.of_pairs(self._believed))
        except PlanRefused:
            self._learned = None
            return plan_pairs(ahead.of_pairs(self.configured))

    def sifted(self, talk: Conversation, plan: BlockPlan) -> SiftedKey:
        settings = of_pairs(plan).settings
        self.device.arm(plan.block_id, settings)
        talk.send(MessageKind.START, b"")
        outcomes = self.device.outcomes(plan.block_id, talk)
        sifted = sift_pairs(outcomes, talk, plan.block_id, Side.A)
        if isinstance(sifted.tallies, PairTallies):
            # For the blocks to come, also from one that is dropped; never for the block itself.
            self._learned = learn_pairs(self._believed, sifted.tallies, settings)
        return sifted

    def learn_from(self, block: DistilledBlock) -> None:
        """What its key says of the key basis' errors, for the blocks to come.

        Not when a frame was told whole: its errors are known to one end alone.
        """
        if not block.effort.frames_failed:
            self._learned = learn_key_errors(self._believed, block.n_errors, block.n_sifted)

    def doubt(self) -> None:
        """A key was not corrected: it may have had more errors than was believed."""
        self._learned = doubt_key_errors(self._believed)

    @property
    def _believed(self) -> PairModel:
        return self._learned or self.configured


@dataclass(slots=True, kw_only=True)
class PairBob:
    """The end that checks the plan."""

    terms: LinkTerms
    device: PairDevice

    def check(self, plan: BlockPlan, block_id: BlockId) -> None:
        """Raises PlanRefused, ProvenanceRefused, LinkError."""
        require_plan_for(plan, self.terms, block_id, self.device.provenance)
        own = self.terms.planning(plan.segment_pads)
        check_pair_plan(of_pairs(plan), own, self.terms.accept_provenance)

    def sifted(self, talk: Conversation, plan: BlockPlan) -> SiftedKey:
        settings = of_pairs(plan).settings
        self.device.arm(plan.block_id, settings)
        talk.receive(MessageKind.START)
        outcomes = self.device.outcomes(plan.block_id, talk)
        return sift_pairs(outcomes, talk, plan.block_id, Side.B)


@dataclass(slots=True, kw_only=True)
class LearningEnd:
    """Alice's end of a link of pairs, which learns from its keys, too, and tells how they are."""

    end: LinkEnd
    link: PairAlice

    @property
    def side(self) -> Side:
        return self.end.side

    def run_block(
        self, talk: Conversation, block_id: BlockId, link_is_free: LinkIsFree
    ) -> DistilledBlock:
        """As `AliceEnd.run_block`."""
        try:
            block = self.end.run_block(talk, block_id, link_is_free)
        except ReconciliationFailed:
            self.link.doubt()
            raise
        except PeerAborted as error:  # whichever end sees it first tells the other
            if str(error).startswith(ReconciliationFailed.__name__):
                self.link.doubt()
            raise
        self.link.learn_from(block)
        log.info("block %d: %s", block_id, entanglement_of(json.dumps(block.certificate())))
        return block


def of_pairs(plan: BlockPlan) -> PairPlan:
    """Raises PlanRefused for a plan of another kind."""
    if not isinstance(plan, PairPlan):
        raise PlanRefused(f"a plan by {plan.theorem!r} is not for entangled pairs")
    return plan
