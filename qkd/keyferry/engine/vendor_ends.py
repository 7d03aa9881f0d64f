"""The two ends of a link whose bits are finished keys of a vendor's boxes.

Each end is a client of its own site's box. No key is asked for before both ends have agreed on the
plan and both boxes have answered; then Alice takes new keys and tells their IDs, and Bob takes the
same ones. Both look at them as they came: amplified, keys of a broken box look like any others.
What follows is what follows sifted bits on any link.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from json import dumps, loads

from keyferry.channel.conversation import Conversation
from keyferry.clock import SystemClock
from keyferry.engine.block import LinkEnd, LinkIsFree
from keyferry.engine.planning import USUAL, PadRefill, require_plan_for
from keyferry.engine.seen_keys import SeenKeys
from keyferry.engine.terms import LinkTerms
from qkd_core.errors import ChannelError, LinkDown, PlanRefused, ProvenanceRefused
from qkd_core.photons.health_keys import require_random
from qkd_core.photons.vendor_keys import as_sifted, require_new, require_these
from qkd_core.ports import Clock, KeyDevice, PadStore
from qkd_core.proofs.vendor_plan import check_vendor_plan, of_vendor_keys, plan_vendor_keys
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import DistilledBlock, SecretKey, SiftedKey
from qkd_core.types.device import BoxFigures
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import BlockPlan
from qkd_core.types.vendor import NAME_MAX, Stock, VendorKey, VendorPlan, VendorSettings

log = logging.getLogger(__name__)

PATIENCE_S = 5.0  # for a block's keys, with the connection kept
LOOK_S, LONGEST_LOOK_S = 0.25, 30.0  # between two looks at a box that cannot serve


@dataclass(frozen=True, slots=True)
class Waiting:
    """For a box that cannot serve a block: since when, in seconds since 1970, and why."""

    since: float
    why: str


@dataclass(slots=True, kw_only=True)
class Box:
    """An end's box, and what was taken from it. For one thread at a time, but for `figures`.

    A box without keys is nothing unusual: while it has none, no block is begun and no connection
    is made, since both would cost pads.
    """

    side: Side
    device: KeyDevice
    seen: SeenKeys
    terms: LinkTerms
    patience_s: float = PATIENCE_S
    clock: Clock = field(default_factory=SystemClock)
    _waiting: Waiting | None = None
    _next_look: float = 0.0
    _look_s: float = LOOK_S
    _taken: dict[BlockId, int] = field(default_factory=dict)

    def look(self) -> None:
        """Raises LinkDown when the box cannot serve a block now; at A also PlanRefused.

        B's box may not know B as a master: that it answers is all that can be asked of it.
        """
        if self.side is Side.A:
            require_stock(self.device.stock(), of_vendor_keys(self.terms.settings))
        else:
            self.device.require_reachable()

    def await_keys(self) -> None:
        """Wait a while until the box can serve a block. Raises as `look`."""
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                self.look()
            except LinkDown as error:
                if time.monotonic() >= deadline:
                    self._wait_on(error)
                    raise
                time.sleep(LOOK_S)
            else:
                return

    def must_wait(self) -> bool:
        """Whether the box could not serve a block when last asked; it is asked now and then."""
        if self._waiting is None:
            return False
        if time.monotonic() < self._next_look:
            return True
        try:
            self.look()
        except LinkDown as error:
            log.info("the link waits: %s", error)
            self._wait_on(error)
            self._next_look = time.monotonic() + self._look_s
            self._look_s = min(LONGEST_LOOK_S, 2 * self._look_s)
            return True
        except PlanRefused as error:  # the next block ends with it
            log.warning("the vendor's box is back: %s", error)
        else:
            log.info("the link goes on: the vendor's box can serve a block")
        self._waiting, self._look_s = None, LOOK_S
        return False

    def figures(self) -> BoxFigures:
        """Whether the link waits for the box, since when and why; from whatever thread."""
        waiting, now = self._waiting, self.clock.now()
        if waiting is None:
            return BoxFigures(told_at=now)
        return BoxFigures(told_at=now, waits_since=waiting.since, why=waiting.why)

    def _wait_on(self, error: LinkDown) -> None:
        """The box cannot serve a block, by its newest answer; it may have been so before."""
        since = self._waiting.since if self._waiting else self.clock.now()
        self._waiting = Waiting(since, str(error))

    def count(self, block_id: BlockId, n_keys: int) -> None:
        """So many more were taken for the block."""
        self._taken[block_id] = self._taken.get(block_id, 0) + n_keys

    def require_acceptable(self, keys: Sequence[VendorKey]) -> None:
        """Raises VendorKeysRefused, ProvenanceRefused for keys that this site does not take."""
        self.seen.require_unlike_recent(keys)
        for told in {key.provenance for key in keys} - {""}:
            self.terms.require(_provenance(told))

    def forget(self, block_id: BlockId) -> int:
        """How many keys were taken for the block."""
        return self._taken.pop(block_id, 0)


@dataclass(slots=True, kw_only=True)
class VendorAlice:
    """The end that takes new keys."""

    terms: LinkTerms
    box: Box
    pads: PadStore
    refill: PadRefill = USUAL

    def plan(self, block_id: BlockId) -> VendorPlan:
        """Raises LinkDown while the box has too few keys; PlanRefused, ProvenanceRefused."""
        provenance = self.box.device.provenance
        self.terms.require(provenance)
        plan = plan_vendor_keys(
            self.terms.planning(self.refill.pads_now(self.pads)), block_id, provenance
        )
        self.box.await_keys()
        return plan

    def sifted(self, talk: Conversation, plan: BlockPlan) -> SiftedKey:
        settings = of_vendor(plan).settings
        talk.receive(MessageKind.START)  # the peer has agreed, and its box answers
        requests = self._requests(plan.block_id, settings)
        sifted = as_sifted(plan.block_id, [key for each in requests for key in each], settings)
        require_random(SecretKey(plan.block_id, sifted.bits, sifted.n_bits))
        ids = [[key.key_id for key in request] for request in requests]
        talk.send_tagged(MessageKind.KEY_IDS, dumps(ids).encode())
        return sifted

    def _requests(self, block_id: BlockId, settings: VendorSettings) -> list[tuple[VendorKey, ...]]:
        """New keys, by the request that they came with."""
        device, left, requests = self.box.device, settings.keys_per_block, []
        at_once = min(left, device.stock().keys_per_request)
        while left:
            number = min(left, at_once)
            keys = device.new_keys(number, settings.key_bits)
            self.box.count(block_id, number)
            require_new(keys, number, settings.key_bits)
            self.box.seen.claim([key.key_id for key in keys])
            self.box.require_acceptable(keys)
            requests.append(keys)
            left -= number
        return requests


@dataclass(slots=True, kw_only=True)
class VendorBob:
    """The end that takes the keys whose IDs it is told."""

    terms: LinkTerms
    box: Box

    def check(self, plan: BlockPlan, block_id: BlockId) -> None:
        """Raises PlanRefused, ProvenanceRefused, LinkDown."""
        require_plan_for(plan, self.terms, block_id, self.box.device.provenance)
        own = self.terms.planning(plan.segment_pads)
        check_vendor_plan(of_vendor(plan), own, self.terms.accept_provenance)
        self.box.await_keys()

    def sifted(self, talk: Conversation, plan: BlockPlan) -> SiftedKey:
        settings = of_vendor(plan).settings
        talk.send(MessageKind.START, b"")
        requests = key_ids_told(talk.receive_tagged(MessageKind.KEY_IDS), settings)
        self.box.seen.claim([key_id for request in requests for key_id in request])
        found: list[VendorKey] = []
        for request in requests:
            keys = self.box.device.keys_of(request)
            self.box.count(plan.block_id, len(request))
            require_these(keys, request, settings.key_bits)
            self.box.require_acceptable(keys)
            found += keys
        sifted = as_sifted(plan.block_id, found, settings)
        require_random(SecretKey(plan.block_id, sifted.bits, sifted.n_bits))
        return sifted


@dataclass(slots=True, kw_only=True)
class VendorEnd:
    """Either end: it waits for its box, and says how many keys were taken for nothing."""

    end: LinkEnd
    box: Box

    @property
    def side(self) -> Side:
        return self.end.side

    def must_wait(self) -> bool:
        """See `WaitingEnd`."""
        return self.box.must_wait()

    def run_block(
        self, talk: Conversation, block_id: BlockId, link_is_free: LinkIsFree
    ) -> DistilledBlock:
        """As `AliceEnd.run_block` and `BobEnd.run_block`."""
        try:
            block = self.end.run_block(talk, block_id, link_is_free)
        except BaseException:
            if lost := self.box.forget(block_id):
                log.warning(
                    "block %d ends, %d keys of the vendor's box were taken for it", block_id, lost
                )
            raise
        self.box.forget(block_id)
        return block


def require_stock(stock: Stock, settings: VendorSettings) -> None:
    """Raise LinkDown for too few keys; PlanRefused for a length that the box does not give."""
    if not stock.key_bits_min <= settings.key_bits <= stock.key_bits_max:
        raise PlanRefused(
            f"key_bits is {settings.key_bits}, the vendor's box gives {stock.key_bits_min} to"
            f" {stock.key_bits_max}"
        )
    if stock.keys_per_request < 1:
        raise LinkDown(f"the vendor's box gives {stock.keys_per_request} keys at once")
    if stock.n_keys < settings.keys_per_block:
        raise LinkDown(
            f"the vendor's box has {stock.n_keys} keys, a block takes {settings.keys_per_block}"
        )


def key_ids_told(body: bytes, settings: VendorSettings) -> tuple[tuple[str, ...], ...]:
    """The key IDs of a block, request by request. Raises ChannelError."""
    try:
        requests = tuple(tuple(_key_id(each) for each in _listed(r)) for r in _listed(loads(body)))
    except (ValueError, TypeError, RecursionError) as error:
        raise ChannelError(f"malformed KEY_IDS message: {str(error)[:NAME_MAX]}") from error
    n_keys = sum(len(request) for request in requests)
    if n_keys != settings.keys_per_block or not all(requests):
        raise ChannelError(f"{n_keys} key IDs were told, a block takes {settings.keys_per_block}")
    return requests


def of_vendor(plan: BlockPlan) -> VendorPlan:
    """Raises PlanRefused for a plan of another kind."""
    if not isinstance(plan, VendorPlan):
        raise PlanRefused(f"a plan by {plan.theorem!r} is not for keys of a vendor's box")
    return plan


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("lists of key IDs were due")
    return value


def _key_id(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= NAME_MAX or not value.isprintable():
        raise TypeError(f"a key ID is a printable text of up to {NAME_MAX} characters")
    return value


def _provenance(told: str) -> Provenance:
    """Raises ProvenanceRefused for one that is unknown here."""
    try:
        return Provenance(told)
    except ValueError:
        raise ProvenanceRefused(f"the vendor's keys are {told[:40]!r}, which is unknown") from None
