"""The link loop: connect, settle, then one block after another, through every failure."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from keyferry.channel.conversation import Conversation, Line
from keyferry.channel.mail import FrameTransport
from keyferry.engine.block import LinkEnd, WaitingEnd
from keyferry.engine.budget import Budget
from keyferry.engine.flight import Flight
from keyferry.engine.greeting import greet
from keyferry.engine.room import Room
from keyferry.engine.settling import settle
from keyferry.engine.terms import LinkTerms
from qkd_core.errors import (
    AuthenticationFailed,
    AuthenticationPoolExhausted,
    BlockDiscarded,
    ChannelError,
    EntropyFailed,
    EpsilonSpent,
    LinkError,
    PeerAborted,
)
from qkd_core.photons.authentication import Authenticator
from qkd_core.ports import AgreementStore, BlockStore, PadStore
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState

log = logging.getLogger(__name__)

SLICE_S = 0.25  # how soon a stop is seen


@dataclass(slots=True)
class Pause:
    """Waits that double while nothing succeeds."""

    first_s: float
    longest_s: float
    stopping: Callable[[], bool]
    _failures: int = 0

    def take(self) -> None:
        end = time.monotonic() + min(self.longest_s, self.first_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        while not self.stopping() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, SLICE_S))

    def forget(self) -> None:
        self._failures = 0


@dataclass(slots=True, kw_only=True)
class Engine:
    """One end of one link. ``connect`` waits for the peer's engine and raises ChannelError."""

    end: LinkEnd
    terms: LinkTerms
    blocks: BlockStore
    pads: PadStore
    agreement: AgreementStore
    room: Room
    budget: Budget
    connect: Callable[[], FrameTransport]
    timeout_s: float
    blocks_in_flight: int = 4
    stopping: Callable[[], bool] = lambda: False

    def run_until_rekeyed(self) -> None:
        """As `run`; with its pads or its epsilon used up it stands still until told to stop.

        So does a rekey. A process that ended would have to be started again to see it.
        """
        try:
            self.run()
        except (AuthenticationPoolExhausted, EpsilonSpent) as error:
            log.critical("%s: the link stands still, it needs a rekey", error)
            while not self.stopping():
                time.sleep(SLICE_S)

    def run(self) -> None:
        """Until told to stop.

        Raises AuthenticationPoolExhausted, EpsilonSpent: the link then needs a rekey.

        A peer that starts again is met within a second; blocks that fail one after another come
        more and more slowly, since each costs pads and none refills the pool.
        """
        reconnecting = Pause(0.1, 1.0, self.stopping)
        failing = Pause(0.25, 300.0, self.stopping)
        while not self.stopping():
            self.budget.require_a_block()
            if self.room.must_wait() or self._end_waits():
                reconnecting.take()
                continue
            try:
                transport = self.connect()
            except ChannelError as error:
                log.info("waiting for the peer's engine: %s", error)
                reconnecting.take()
                continue
            try:
                self._talk(transport, failing)
            except ChannelError as error:
                log.warning("connection given up: %s", error)
                reconnecting.take()
            except AuthenticationFailed as error:
                log.warning("connection given up: %s", error)
                # Whoever forges costs pads with each try: A comes more and more slowly.
                (failing if self.end.side is Side.A else reconnecting).take()
            finally:
                transport.close()

    def _talk(self, transport: FrameTransport, failing: Pause) -> None:
        """Greet, settle, and run blocks while the connection lasts."""
        authenticator = Authenticator(self.end.side, self.pads)
        line = Line(transport, authenticator, self.terms.link_id, self.timeout_s)
        at_most = greet(line, self.terms, self.blocks_in_flight)
        outcome = settle(line, self.blocks, self.agreement)
        for block in outcome.made_available:
            log.info("block %d settled: available", block)
        for block in outcome.destroyed:
            log.warning("block %d settled: destroyed, the peer does not have it", block)
        self._fly(line, at_most, failing)

    def _fly(self, line: Line, at_most: int, failing: Pause) -> None:
        """One block after another over the link, and what follows side by side."""

        def interrupt(error: BaseException) -> None:
            line.mail.fail(ChannelError(f"given up: {error}"))

        flight = Flight(
            lambda block_id, link_is_free: self._one_block(line, block_id, link_is_free),
            at_most,
            interrupt,
        )
        try:
            while not self._should_pause():
                # Looked at again: the block that held the link may have changed it meanwhile.
                if flight.wait_free(SLICE_S) and self._may_begin():
                    flight.start(BlockId(self.blocks.newest() + 1))
                self._keep_pace(flight.outcomes(), failing)
            self._end_flight(flight, line)
        except BaseException as error:
            flight.abandon(error)
            raise

    def _should_pause(self) -> bool:
        """Whether no block is to be begun on this connection any more."""
        return self.stopping() or self.room.must_wait() or not self._may_begin()

    def _may_begin(self) -> bool:
        """Whether there is epsilon for a block, and something to make it of."""
        return self.budget.allows_a_block() and not self._end_waits()

    def _end_waits(self) -> bool:
        return isinstance(self.end, WaitingEnd) and self.end.must_wait()

    def _keep_pace(self, outcomes: list[bool], failing: Pause) -> None:
        for gave_key in outcomes:
            if gave_key:
                failing.forget()
            elif self.end.side is Side.A:  # A begins each block, so A sets the pace
                failing.take()

    def _end_flight(self, flight: Flight, line: Line) -> None:
        """Finish what is past the link, unless a block is at the link: then give all of them up.

        A block that B waits for may never be begun, and a stop is not to wait for it.
        """
        deadline = time.monotonic() + self.timeout_s
        while flight.link_is_busy and time.monotonic() < deadline and not self.stopping():
            flight.wait_free(SLICE_S)
        if flight.link_is_busy:
            flight.abandon(ChannelError("the engine stops"))
        else:
            line.mail.open_no_more()  # the peer may have begun blocks that this end will not
            flight.land()

    def _one_block(self, line: Line, block_id: BlockId, link_is_free: Callable[[], None]) -> bool:
        """Whether the block gave key. Its failure is recorded, told to the peer, ends here."""
        talk = Conversation(line, block_id)
        try:
            return self._run_block(talk, block_id, link_is_free)
        finally:
            talk.close()

    def _run_block(
        self, talk: Conversation, block_id: BlockId, link_is_free: Callable[[], None]
    ) -> bool:
        try:
            block = self.end.run_block(talk, block_id, link_is_free)
        except PeerAborted as error:
            # The peer aborts before it stores: what is pending here is at this site only.
            if self.blocks.state(block_id) is BlockState.PENDING:
                self.blocks.destroy(block_id, "the peer gave it up")
            self._discarded(block_id, error)
            return False
        except (BlockDiscarded, LinkError) as error:
            self._discarded(block_id, error)
            if talk.begun:
                talk.abort(type(error).__name__, str(error))
            if isinstance(error, AuthenticationFailed):
                raise
            return False
        except (ChannelError, AuthenticationPoolExhausted, EntropyFailed) as error:
            # What is pending is not lost: settling decides about it.
            if talk.begun and self.blocks.state(block_id) is BlockState.NONE:
                self._discarded(block_id, error)
            raise
        log.info("block %d: %d secret bits", block_id, block.key.n_bits)
        return True

    def _discarded(self, block_id: BlockId, error: Exception) -> None:
        self.blocks.record_discarded(block_id, type(error).__name__, str(error))
        log.warning("block %d discarded: %s: %s", block_id, type(error).__name__, error)
