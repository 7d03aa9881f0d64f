"""The end of Cascade whose bits are corrected to: it tells what is asked, and counts it.

Its part of a message, in words: in the order of the questions, the answers (each frame starts a
word), a word for each frame whose hash came (`GOOD` or `BAD`), the bits of frames that are bad for
the second time, and the parities of all blocks of the frames that begin.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ChannelError
from qkd_core.kernels.cascade_reference import FINISHED, answer, open_reference
from qkd_core.photons.reconciliation.budget import Budget
from qkd_core.photons.reconciliation.cascade_passes import HASH_BITS, Agreed
from qkd_core.photons.reconciliation.cascade_slots import Slots
from qkd_core.photons.reconciliation.frames import Frames
from qkd_core.types.bits import PackedBits, n_words, wipe

GOOD, BAD = 0, 1
SHORT_BITS = 1 << 16  # a boundary of a frame of so many bits takes two bytes, else four

Words = npt.NDArray[np.uint64]
Boundaries = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def boundaries(words: Words, frames: Frames) -> Boundaries:
    """A message's words seen as the boundaries that it holds."""
    if 64 * frames.words <= SHORT_BITS:
        return words.view(np.uint16)
    return words.view(np.uint32)


class Reference:
    """The ``chosen`` frames of ``key`` at this end, as far as the other end has got with them."""

    def __init__(self, key: PackedBits, chosen: Iterable[int], agreed: Agreed) -> None:
        self.key, self.frames, self.slots = key, agreed.frames, Slots(chosen, agreed)
        self.n_errors = 0
        self._totals = np.zeros(3, np.int64)
        self._answered = 0
        self._hashes: Words = np.zeros(0, np.uint64)
        self._scratch = np.empty(2 * self.frames.words + 64, np.uint64)
        self._make_room()

    def _make_room(self) -> None:
        self.bits = np.empty((self.slots.number, self.frames.words), np.uint64)
        self._prefixes = np.empty(self.bits.size * self.slots.passes.number, np.uint64)

    def wipe(self) -> None:
        """Forget the key."""
        for array in (self.bits, self._prefixes, self._scratch):
            wipe(array)

    @property
    def longest(self) -> int:
        """Words that a part of a message takes at most."""
        passes = self.slots.passes
        of_frame = 1 + n_words(passes.most) + passes.top_words + self.frames.words
        return self.slots.number * of_frame

    def hear(self, message: Words, at: int, budget: Budget, out: Words) -> int:
        """Read the questions from ``message[at]`` on and write the answers to the start of ``out``.

        Returns where the questions end. Raises ReconciliationFailed, ChannelError.
        """
        slots = self.slots
        if not slots.running.size:
            return at
        self._answered = answer(
            message, boundaries(message, self.frames), at, slots.passes.n_blocks, slots.running,
            self._prefixes, self.frames.words, slots.told, self._totals, out,
        )  # fmt: skip
        if self._answered < 0:
            raise ChannelError(f"parities: {8 * message.size} bytes hold no possible questions")
        end, asked, finishing = self._totals.tolist()
        if finishing:
            end = self._hear_hashes(message, at, end)
        budget.spend(asked + HASH_BITS * finishing, asked)
        return end

    def tell(self, out: Words, budget: Budget) -> int:
        """Complete this end's part of a message, at the start of ``out``; returns where it ends.

        Raises ReconciliationFailed.
        """
        at, self._answered = self._answered, 0
        if self.slots.finishing.size:
            at = self._tell_verdicts(out, at, budget)
        return self._tell_tops(out, at, budget)

    def _hear_hashes(self, message: Words, at: int, end: int) -> int:
        """Of each frame that finishes: the hash, and how many bits were flipped."""
        slots = self.slots
        n = slots.running.size
        slots.finish(message[at : at + (n + 1) // 2].view(np.uint32)[:n] == FINISHED)
        closing = part(message, end, end + 2 * slots.finishing.size)
        self._hashes, flipped = closing[::2], closing[1::2]
        if int(flipped.max()) > 64 * self.frames.words:
            raise ChannelError(f"parities: {flipped.max()} bits flipped in one frame")
        self.n_errors += int(flipped.sum())
        return end + closing.size

    def _tell_verdicts(self, out: Words, at: int, budget: Budget) -> int:
        slots = self.slots
        budget.spend(0, slots.finishing.size)
        end = at + slots.finishing.size
        for slot, theirs in zip(slots.finishing.tolist(), self._hashes.tolist(), strict=True):
            good = slots.hash_of(slot, self.bits[slot]) == theirs
            out[at] = GOOD if good else BAD
            at += 1
            if not good and slots.repairing:
                words = slots.count_whole(slot, budget)
                out[end : end + words] = self.bits[slot, :words]
                end += words
            elif not good:
                slots.repair_later(slot)
        slots.release()
        return end

    def _tell_tops(self, out: Words, at: int, budget: Budget) -> int:
        """Of the frames that begin, the parities of all blocks."""
        slots = self.slots
        if slots.turn():
            self.wipe()
            self._make_room()
        begun, passes = slots.fill(budget), slots.passes
        if not begun.size:
            return at
        end = at + begun.size * passes.top_words
        for slot in begun.tolist():
            self.frames.load(self.key, slots.frame(slot), self.bits[slot])
        open_reference(self.bits.reshape(-1), begun, self.frames.words, passes.tables,
                       passes.block_bits, passes.n_blocks, self._prefixes, out[at:end],
                       self._scratch)  # fmt: skip
        return end


def part(message: Words, start: int, stop: int) -> Words:
    """``message[start:stop]``; ChannelError if it ends before."""
    if stop > message.size:
        raise ChannelError(f"parities: {8 * message.size} bytes, {8 * stop} or more expected")
    return message[start:stop]
