"""The link loop: connect, settle, then one block after another, through every failure."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from keyferry.channel.conversation import Conversation, FrameTransport, Line
from keyferry.engine.block import LinkEnd, LinkTerms
from keyferry.engine.greeting import greet
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
from qkd_core.ports import BlockStore, PadStore
from qkd_core.types.ids import BlockId, Side

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0


class ClosableTransport(FrameTransport, Protocol):
    def close(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Engine:
    """One end of one link. ``connect`` waits for the peer's engine and raises ChannelError."""

    end: LinkEnd
    terms: LinkTerms
    blocks: BlockStore
    pads: PadStore
    connect: Callable[[], ClosableTransport]
    timeout_s: float
    stopping: Callable[[], bool] = lambda: False
    _failures: int = 0

    def run(self) -> None:
        """Until told to stop. Raises AuthenticationPoolExhausted: the link then needs a rekey."""
        while not self.stopping():
            try:
                transport = self.connect()
            except ChannelError as error:
                log.info("waiting for the peer's engine: %s", error)
                self._pause()
                continue
            try:
                self._talk(transport)
            except (ChannelError, AuthenticationFailed) as error:
                log.warning("connection given up: %s", error)
                self._pause()
            finally:
                transport.close()

    def _talk(self, transport: FrameTransport) -> None:
        """Greet, settle, and run blocks while the connection lasts."""
        authenticator = Authenticator(self.end.side, self.pads)
        line = Line(transport, authenticator, self.terms.link_id, self.timeout_s)
        greet(line, self.terms)
        outcome = settle(line, self.blocks)
        for block in outcome.made_available:
            log.info("block %d settled: available", block)
        for block in outcome.destroyed:
            log.warning("block %d settled: destroyed, the peer does not have it", block)
        while not self.stopping():
            self._one_block(line)

    def _one_block(self, line: Line) -> None:
        """The next block. Its failure is recorded, told to the peer, and ends here."""
        block_id = BlockId(self.blocks.newest() + 1)
        talk = Conversation(line, block_id)
        try:
            block = self.end.run_block(talk, block_id)
        except PeerAborted as error:
            self._discarded(block_id, error)
            self._pause_at_a()
        except (BlockDiscarded, LinkError) as error:
            self._discarded(block_id, error)
            if talk.begun:
                talk.abort(type(error).__name__, str(error))
            if isinstance(error, AuthenticationFailed):
                raise
            self._pause_at_a()
        except (ChannelError, AuthenticationPoolExhausted) as error:
            if talk.begun:
                self.blocks.record_discarded(block_id, type(error).__name__, str(error))
            raise
        else:
            self._failures = 0
            log.info("block %d: %d secret bits", block_id, block.key.n_bits)

    def _discarded(self, block_id: BlockId, error: Exception) -> None:
        self.blocks.record_discarded(block_id, type(error).__name__, str(error))
        log.warning("block %d discarded: %s: %s", block_id, type(error).__name__, error)

    def _pause_at_a(self) -> None:
        """A starts each block, so A slows down when one after another fails."""
        if self.end.side is Side.A:
            self._pause()

    def _pause(self) -> None:
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        end = time.monotonic() + pause_s
        while not self.stopping() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.25))
