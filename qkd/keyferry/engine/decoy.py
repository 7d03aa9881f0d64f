"""The two ends of a link of decoy pulses: plans from what was learned, clicks into sifted bits."""

from contextlib import ExitStack
from dataclasses import dataclass, field

from keyferry.channel.conversation import Conversation
from keyferry.engine.block import watched_urandom
from keyferry.engine.planning import USUAL, PadRefill, require_plan_for
from keyferry.engine.terms import LinkTerms
from qkd_core.errors import PlanRefused
from qkd_core.photons.alignment import align
from qkd_core.photons.entropy import Entropy
from qkd_core.photons.monitors import Watch
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.photons.sifting import sift_alice, sift_bob
from qkd_core.ports import AliceDevice, BobDevice, PadStore
from qkd_core.proofs.ahead import Ahead, Correction
from qkd_core.proofs.expectation import learn
from qkd_core.proofs.plan import check_plan, plan_block
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import wipe
from qkd_core.types.blocks import SiftedKey, Tallies
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import BlockPlan, DecoyPlan, LinkModel


@dataclass(slots=True, kw_only=True)
class DecoyAlice:
    """Alice's end. ``configured``: the model before any block is seen."""

    terms: LinkTerms
    device: AliceDevice
    pads: PadStore
    configured: LinkModel
    correction: Correction
    refill: PadRefill = USUAL
    _learned: LinkModel | None = None

    def plan(self, block_id: BlockId) -> DecoyPlan:
        """Raises PlanRefused when no key can be had, ProvenanceRefused, LinkError.

        A link that was dark has taught a model that promises no key. The next block is then
        planned as if nothing had been learned: it is dropped while the link stays dark, and
        gives key when the light is back.
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
            return plan_block(ahead.of_pulses(self._learned or self.configured))
        except PlanRefused:
            self._learned = None
            return plan_block(ahead.of_pulses(self.configured))

    def sifted(self, talk: Conversation, plan: BlockPlan) -> SiftedKey:
        settings = of_decoys(plan).settings
        self.device.arm(plan.block_id, settings)
        talk.send(MessageKind.START, b"")
        sifted = sift_alice(
            talk, plan.block_id, settings, lambda slots: self.device.settings(plan.block_id, slots)
        )
        if isinstance(sifted.tallies, Tallies):
            # For the blocks to come, also from one that is dropped; never for the block itself. A
            # planner that learned from accepted blocks only would never find back to a link that
            # has changed.
            self._learned = learn(self._learned or self.configured, sifted.tallies, settings)
        return sifted


@dataclass(slots=True, kw_only=True)
class DecoyBob:
    """Bob's end. ``watch``: the monitors of its detectors; None for none."""

    terms: LinkTerms
    device: BobDevice
    watch: Watch | None = None
    entropy: Entropy = field(default_factory=watched_urandom)

    def check(self, plan: BlockPlan, block_id: BlockId) -> None:
        """The peer's plan, re-derived here. Raises PlanRefused, ProvenanceRefused, LinkError."""
        require_plan_for(plan, self.terms, block_id, self.device.provenance)
        own = self.terms.planning(plan.segment_pads)
        check_plan(of_decoys(plan), own, self.terms.accept_provenance)

    def sifted(self, talk: Conversation, plan: BlockPlan) -> SiftedKey:
        settings = of_decoys(plan).settings
        self.device.arm(plan.block_id, settings)
        talk.receive(MessageKind.START)  # a peer that died is noticed here, not at the device
        with ExitStack() as afterwards:
            detections = self.device.detections(plan.block_id)
            afterwards.callback(wipe, detections.detector)
            raw = align(detections, settings, self.entropy)
            afterwards.callback(wipe, raw.bit)
            if self.watch is not None:
                raw = self.watch.passed(detections, raw, of_decoys(plan))
                afterwards.callback(wipe, raw.bit)
            return sift_bob(raw, talk, settings)


def of_decoys(plan: BlockPlan) -> DecoyPlan:
    """Raises PlanRefused for a plan of another kind."""
    if not isinstance(plan, DecoyPlan):
        raise PlanRefused(f"a plan by {plan.theorem!r} is not for decoy pulses")
    return plan
