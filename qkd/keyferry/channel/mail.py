"""Brings the frames of one connection to the conversations of several blocks at once.

No thread of its own: of the conversations that wait, one reads for all. Tagged frames have to be
verified in the order in which they came, since a pad below the newest verified one is refused; so
each has a turn, which is over when its frame is verified or dropped.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock
from typing import NamedTuple, Protocol

from keyferry.channel.frames import NUMBER_LIMIT, Frame
from qkd_core.errors import ChannelError, Silent
from qkd_core.types.ids import BlockId

EARLY_LIMIT = 256  # frames of a block that this end has not begun yet
UNREAD_LIMIT = 64  # frames of one block that nobody has read
UNREAD_BYTES = 256 << 20  # of those of one block, or of all early ones
LAST = BlockId(NUMBER_LIMIT)


class FrameTransport(Protocol):
    """What a conversation needs of a connection. One thread receives, any may send."""

    def send(self, frame: Frame) -> None: ...

    def receive(self, timeout_s: float) -> Frame:
        """The next whole frame. Raises `Silent` when none began in time, ChannelError."""
        ...

    def close(self) -> None:
        """Who waits in `receive` gets ChannelError."""


class Letter(NamedTuple):
    """A frame that came, and its turn if it is tagged."""

    frame: Frame
    turn: int


class Box:
    """The frames of one block that nobody has read, and who waits for them."""

    def __init__(self, lock: Lock) -> None:
        self.letters: deque[Letter] = deque()
        self.changed = Condition(lock)
        self.waiting = 0
        self.heard = False  # anything


class Mail:
    """The frames of one connection, by block. Any thread may use it."""

    def __init__(self, transport: FrameTransport, turn_s: float) -> None:
        """``turn_s``: how long a tagged frame waits at most for its turn."""
        self._transport, self._turn_s = transport, turn_s
        self._lock = Lock()
        self._boxes: dict[BlockId, Box] = {}
        self._early: deque[Letter] = deque()
        self._newest = BlockId(-1)  # block that was ever opened
        self._reading = False
        self._broken: ChannelError | None = None
        self._turns, self._turn = 0, 0  # given, and the one that is on
        self._turned = Condition(self._lock)
        self._over: set[int] = set()  # turns that ended before they were on

    def open(self, block_id: BlockId) -> None:
        """Keep the frames of this block from now on. Raises ChannelError.

        Frames of earlier blocks that were never opened are dropped; the peer's next block must be
        this one.
        """
        with self._lock:
            box = self._boxes.setdefault(block_id, Box(self._lock))
            later: deque[Letter] = deque()
            for letter in self._early:
                if letter.frame.header.block_id == block_id:
                    box.letters.append(letter)
                    box.heard = True
                elif letter.frame.header.block_id < block_id:
                    self._end(letter)
                elif box.letters:
                    later.append(letter)
                else:
                    raise ChannelError(
                        f"block {letter.frame.header.block_id} came, {block_id} is on"
                    )
            self._early = later
            self._newest = max(self._newest, block_id)

    def close(self, block_id: BlockId) -> None:
        """Drop the frames of this block, those that came and those that come."""
        with self._lock:
            box = self._boxes.pop(block_id, None)
            for letter in box.letters if box else ():
                self._end(letter)

    def open_no_more(self) -> None:
        """Drop the frames of all blocks that are not open, those that came and those that come.

        The turns of others must not wait for them.
        """
        with self._lock:
            self._newest = LAST
            for letter in self._early:
                self._end(letter)
            self._early.clear()

    def fail(self, error: ChannelError) -> None:
        """Whoever waits or will wait gets ``error``, unless it is broken already."""
        with self._lock:
            self._break(error)
        self._transport.close()  # wakes the one that reads

    def next(self, block_id: BlockId, timeout_s: float) -> Letter:
        """The next frame of an open block. Raises ChannelError: broken, or silent too long."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                if (letter := self._awaited(block_id, deadline)) is not None:
                    return letter
                self._reading = True
            self._read(max(0.0, deadline - time.monotonic()))

    def _awaited(self, block_id: BlockId, deadline: float) -> Letter | None:
        """The next frame of the block; None when this thread is to read the connection."""
        box = self._boxes.get(block_id)
        if box is None:
            raise ChannelError(f"the conversation of block {block_id} is over")
        while True:
            if box.letters:
                if not self._reading:
                    self._wake_a_reader(box)
                return box.letters.popleft()
            self._require_whole()
            left = deadline - time.monotonic()
            if left <= 0:
                if not self._reading:  # this thread may have been woken to read
                    self._wake_a_reader(box)
                raise Silent("the peer is silent")
            if not self._reading:
                return None
            box.waiting += 1
            box.changed.wait(left)
            box.waiting -= 1

    def _read(self, timeout_s: float) -> None:
        """Bring one frame in."""
        try:
            frame = self._transport.receive(timeout_s)
        except Silent:
            with self._lock:
                self._stop_reading()
        except ChannelError as error:
            with self._lock:
                self._stop_reading()
                self._break(error)
            raise
        except BaseException:
            with self._lock:
                self._stop_reading()
            raise
        else:
            with self._lock:
                self._reading = False
                self._deliver(frame)

    def _stop_reading(self) -> None:
        self._reading = False
        self._wake_a_reader(None)

    def _wake_a_reader(self, leaving: Box | None) -> None:
        """Of those that wait, one takes over."""
        for box in self._boxes.values():
            if box is not leaving and box.waiting:
                box.changed.notify()
                return

    def _deliver(self, frame: Frame) -> None:
        letter = Letter(frame, self._turns)
        if frame.trailer is not None:
            self._turns += 1
        block_id = frame.header.block_id
        box = self._boxes.get(block_id)
        if box is not None:
            if is_full(box.letters, UNREAD_LIMIT):
                self._break(ChannelError(f"too many frames of block {block_id} are unread"))
            box.letters.append(letter)
            box.heard = True
            box.changed.notify()
        elif block_id <= self._newest:
            self._end(letter)
        else:
            newest = self._boxes.get(self._newest)
            skipped = newest is not None and not newest.heard
            if self._newest > 0 and (skipped or block_id > self._newest + 1):
                self._break(ChannelError(f"block {block_id} came, {self._newest} is on"))
            if is_full(self._early, EARLY_LIMIT):
                self._break(ChannelError(f"block {block_id} came too early"))
            self._early.append(letter)

    @contextmanager
    def turn(self, letter: Letter) -> Iterator[None]:
        """While inside, no other tagged frame is verified; earlier ones are over.

        Raises ChannelError when the connection broke before, or when the peer has sent a tagged
        frame before this one that is not read in time: nobody may be there to read it.
        """
        deadline = time.monotonic() + self._turn_s
        try:
            with self._lock:
                while self._turn != letter.turn:
                    self._require_whole()
                    if (left := deadline - time.monotonic()) <= 0:
                        raise ChannelError("a tagged frame that came earlier is still unread")
                    self._turned.wait(left)
        except BaseException:
            self.drop(letter)
            raise
        try:
            yield
        finally:
            self.drop(letter)

    def drop(self, letter: Letter) -> None:
        """Its turn is over; nobody will verify it any more."""
        with self._lock:
            self._end(letter)

    def _end(self, letter: Letter) -> None:
        if letter.frame.trailer is None:
            return
        self._over.add(letter.turn)
        while self._turn in self._over:
            self._over.remove(self._turn)
            self._turn += 1
        self._turned.notify_all()

    def _break(self, error: ChannelError) -> None:
        self._broken = self._broken or error
        self._turned.notify_all()
        for box in self._boxes.values():
            box.changed.notify_all()

    def _require_whole(self) -> None:
        if self._broken is not None:
            raise ChannelError(str(self._broken)) from self._broken


def is_full(letters: deque[Letter], limit: int) -> bool:
    """Whether no more may be kept unread: so many, or so long ones."""
    n_bytes = sum(len(letter.frame.body) for letter in letters)
    return len(letters) >= limit or n_bytes >= UNREAD_BYTES
