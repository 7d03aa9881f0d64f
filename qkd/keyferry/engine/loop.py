"""The link loop: connect, settle, then one block after another, through every failure."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from keyferry.channel.conversation import Conversation, FrameTransport, Line
from keyferry.engine.block import LinkEnd, LinkTerms
from keyferry.engine.greeting import greet
from keyferry.engine.room import Room
from keyferry.engine.settling import settle
from qkd_core.errors import (
    AuthenticationFailed,
    AuthenticationPoolExhausted,
    BlockDiscarded,
    ChannelError,
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


class ClosableTransport(FrameTransport, Protocol):
    def close(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Engine:
    """One end of one link. ``connect`` waits for the peer's engine and raises ChannelError."""

    end: LinkEnd
    terms: LinkTerms
    blocks: BlockStore
    pads: PadStore
    agreement: AgreementStore
    room: Room
    connect: Callable[[], ClosableTransport]
    timeout_s: float
    stopping: Callable[[], bool] = lambda: False

    def run_until_rekeyed(self) -> None:
        """As `run`; with its pads used up it stands still until told to stop, as a rekey does.

        A process that ended would have to be started again to see that the link was rekeyed.
        """
        try:
            self.run()
        except AuthenticationPoolExhausted as error:
            log.critical("%s: the link stands still, it needs a rekey", error)
            while not self.stopping():
                time.sleep(SLICE_S)

    def run(self) -> None:
        """Until told to stop. Raises AuthenticationPoolExhausted: the link then needs a rekey.

        A peer that starts again is met within a second; blocks that fail one after another come
        more and more slowly, since each costs pads and none refills the pool.
        """
        reconnecting = Pause(0.1, 1.0, self.stopping)
        failing = Pause(0.25, 300.0, self.stopping)
        while not self.stopping():
            if self.room.must_wait():
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
        greet(line, self.terms)
        outcome = settle(line, self.blocks, self.agreement)
        for block in outcome.made_available:
            log.info("block %d settled: available", block)
        for block in outcome.destroyed:
            log.warning("block %d settled: destroyed, the peer does not have it", block)
        while not self.stopping() and not self.room.must_wait():
            if self._one_block(line):
                failing.forget()
            elif self.end.side is Side.A:  # A begins each block, so A sets the pace
                failing.take()

    def _one_block(self, line: Line) -> bool:
        """Whether the next block gave key. Its failure is recorded, told to the peer, ends here."""
        block_id = BlockId(self.blocks.newest() + 1)
        talk = Conversation(line, block_id)
        try:
            block = self.end.run_block(talk, block_id)
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
        except (ChannelError, AuthenticationPoolExhausted) as error:
            # What is pending is not lost: settling decides about it.
            if talk.begun and self.blocks.state(block_id) is BlockState.NONE:
                self._discarded(block_id, error)
            raise
        log.info("block %d: %d secret bits", block_id, block.key.n_bits)
        return True

    def _discarded(self, block_id: BlockId, error: Exception) -> None:
        self.blocks.record_discarded(block_id, type(error).__name__, str(error))
        log.warning("block %d discarded: %s: %s", block_id, type(error).__name__, error)
