"""Several blocks on their way at once, each in a thread of its own.

The link serves one block after another; what comes after the link, the blocks do side by side.
A block that waits for the peer leaves the processor to the others.
"""

from collections.abc import Callable
from threading import Condition, Thread

from qkd_core.types.ids import BlockId

Run = Callable[[BlockId, Callable[[], None]], bool]
"""Run a block, calling the second argument once the link is free for the next; did it give key?"""


class Flight:
    """The blocks that are on their way. For one thread, which starts them."""

    def __init__(self, run: Run, at_most: int, interrupt: Callable[[BaseException], None]) -> None:
        """``interrupt`` makes all blocks end soon; it is called when one raises."""
        self._run, self._at_most, self._interrupt = run, at_most, interrupt
        self._changed = Condition()
        self._threads: dict[BlockId, Thread] = {}
        self._at_link: BlockId | None = None
        self._outcomes: list[bool] = []
        self._error: BaseException | None = None

    def start(self, block_id: BlockId) -> None:
        """Begin a block; the link must be free."""
        thread = Thread(target=self._fly, args=(block_id,), name=f"block-{block_id}", daemon=True)
        with self._changed:
            self._threads[block_id], self._at_link = thread, block_id
        thread.start()

    def wait_free(self, timeout_s: float) -> bool:
        """Whether another block may begin, waiting a while for it. Raises what a block raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._free(), timeout_s)
            self._raise()
            return self._free()

    def outcomes(self) -> list[bool]:
        """Of the blocks that ended since the last call: did they give key?"""
        with self._changed:
            ended, self._outcomes = self._outcomes, []
        return ended

    def land(self) -> None:
        """Wait for all blocks. Raises what one of them raised first."""
        with self._changed:
            self._changed.wait_for(lambda: not self._threads)
            self._raise()

    def abandon(self, error: BaseException) -> None:
        """Interrupt all blocks and wait for their end."""
        self._interrupt(error)
        with self._changed:
            self._changed.wait_for(lambda: not self._threads)

    @property
    def link_is_busy(self) -> bool:
        with self._changed:
            return self._at_link is not None

    def _free(self) -> bool:
        return self._at_link is None and len(self._threads) < self._at_most

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _fly(self, block_id: BlockId) -> None:
        try:
            gave_key = self._run(block_id, lambda: self._leave_link(block_id))
        except BaseException as error:
            with self._changed:
                first = self._error is None
                self._error = self._error or error
            if first:
                self._interrupt(error)
            gave_key = False
        with self._changed:
            del self._threads[block_id]
            self._outcomes.append(gave_key)
            if self._at_link == block_id:
                self._at_link = None
            self._changed.notify_all()

    def _leave_link(self, block_id: BlockId) -> None:
        with self._changed:
            if self._at_link == block_id:
                self._at_link = None
            self._changed.notify_all()
