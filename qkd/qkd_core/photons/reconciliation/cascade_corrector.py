"""The end of Cascade whose bits are corrected: it asks for parities until no block is odd.

Its part of a message, in words: a header for each frame in flight (uint32, see
`kernels.cascade_reference.answer`), the boundaries asked for (uint16 or uint32), and, for each
frame that finishes, a hash of it and how many bits were flipped. The number of flips says nothing
that the questions have not said.
"""

from collections.abc import Iterable

import numpy as np

from qkd_core.errors import ChannelError, ReconciliationFailed
from qkd_core.kernels.cascade_corrector import NOT_CONSISTENT, advance
from qkd_core.kernels.cascade_flips import FLIPPED, INTERVALS, STATE
from qkd_core.photons.reconciliation.budget import Budget
from qkd_core.photons.reconciliation.cascade_passes import HASH_BITS, Agreed
from qkd_core.photons.reconciliation.cascade_reference import (
    BAD,
    GOOD,
    Words,
    boundaries,
    part,
)
from qkd_core.photons.reconciliation.cascade_slots import Slots
from qkd_core.types.bits import PackedBits, wipe


class Corrector:
    """The ``chosen`` frames of ``key`` at this end, which is changed as they are confirmed.

    n_errors  bits that were flipped, or differed from a frame that was told whole

    Of each frame in flight it keeps 2 words for every word and pass, and 2 more: with 65536 bits
    and four passes about 80 kB.
    """

    def __init__(self, key: PackedBits, chosen: Iterable[int], agreed: Agreed) -> None:
        self.key, self.frames, self.slots = key, agreed.frames, Slots(chosen, agreed)
        self.n_errors = 0
        self._totals = np.zeros(3, np.int64)
        self._expected = 0  # words of answers
        self._spent = 0, 0  # on the questions: about the key, about the errors
        self._answers: Words = np.zeros(0, np.uint64)
        self._answers_at = 0
        self._scratch = np.empty(2 * self.frames.words + 64, np.uint64)
        self._make_room()

    def _make_room(self) -> None:
        passes = self.slots.passes
        n, number, words = self.slots.number, passes.number, self.frames.words
        self.bits = np.empty((n, words), np.uint64)
        self._original = np.empty((n, words), np.uint64)
        self._apart = np.empty(n * number * words, np.uint64)
        self._known = np.empty(n * number * words, np.uint64)
        blocks = n * int(passes.block_at[-1])
        self._odd, self._listed = np.empty(blocks, np.uint8), np.empty(blocks, np.int32)
        self._n_listed = np.zeros(n * number, np.int64)
        self._intervals = np.empty(n * passes.most, np.uint64)
        self._errors = np.empty(n * passes.most, np.uint32)
        self._states = np.zeros((n, STATE), np.int64)
        self._tops = np.empty((n, passes.top_words), np.uint64)

    def wipe(self) -> None:
        """Forget the key."""
        for array in (self.bits, self._original, self._apart, self._scratch):
            wipe(array)

    @property
    def longest(self) -> int:
        """Words that a part of a message takes at most, with what is written beyond its end."""
        return self.slots.number * (4 + self.slots.passes.most // 2) + 2

    def hear(self, message: Words, at: int, budget: Budget) -> int:
        """Read answers, verdicts and the parities of blocks, from ``message[at]`` on.

        Returns where they end. Raises ReconciliationFailed, ChannelError.
        """
        self._answers, self._answers_at = message, at
        at += part(message, at, at + self._expected).size
        self._expected = 0
        if self.slots.finishing.size:
            at = self._hear_verdicts(message, at, budget)
        return self._hear_tops(message, at, budget)

    def ask(self, out: Words, at: int) -> int:
        """Go on with the answers, and write the next questions from ``out[at]`` on.

        Returns where they end. Raises ReconciliationFailed.
        """
        if not self.slots.running.size:
            return at
        end = self._advance(out, at)
        asked, self._expected, finishing = self._totals.tolist()
        if finishing:
            end = self._tell_hashes(out, end)
        self._spent = asked + HASH_BITS * finishing, asked
        return end

    def count(self, budget: Budget) -> None:
        """Count the questions that were sent, which the other end does when it reads them.

        After sending, so that both give up for one reason: the answers, which tell of the key, do
        not come then. Raises ReconciliationFailed.
        """
        budget.spend(*self._spent)
        self._spent = 0, 0

    def _advance(self, out: Words, at: int) -> int:
        slots, passes = self.slots, self.slots.passes
        end: int = advance(
            self.frames.words, passes.top_words, passes.block_bits, passes.reciprocals,
            passes.n_blocks, passes.block_at, passes.tables, self._tops.reshape(-1), slots.running,
            self._answers, self._answers_at, passes.most, self._original.reshape(-1),
            self.bits.reshape(-1), self._apart, self._known, self._odd, self._listed,
            self._n_listed, self._intervals, self._errors, self._states.reshape(-1), slots.told,
            self._scratch, self._totals, out.view(np.uint32), boundaries(out, self.frames), at,
        )  # fmt: skip
        if end == NOT_CONSISTENT:
            raise ReconciliationFailed("parities contradict each other: a bit errs twice")
        return end

    def _tell_hashes(self, out: Words, at: int) -> int:
        slots = self.slots
        slots.finish(self._states[slots.running, INTERVALS] == 0)
        for slot in slots.finishing.tolist():
            flipped = int(self._states[slot, FLIPPED])
            out[at], out[at + 1] = slots.hash_of(slot, self.bits[slot]), flipped
            self.n_errors += flipped
            self.frames.store(slots.frame(slot), self.bits[slot], self.key)
            at += 2
        return at

    def _hear_verdicts(self, message: Words, at: int, budget: Budget) -> int:
        slots = self.slots
        end = at + slots.finishing.size
        verdicts = part(message, at, end)
        if int(verdicts.max()) > max(GOOD, BAD):
            raise ChannelError(f"parities: a verdict of {verdicts.max()}")
        budget.spend(0, verdicts.size)
        for slot in slots.finishing[verdicts == BAD].tolist():
            if slots.repairing:
                words = slots.count_whole(slot, budget)
                whole = part(message, end, end + words)
                self.n_errors += int(np.bitwise_count(self.bits[slot, :words] ^ whole).sum())
                self.frames.store(slots.frame(slot), whole, self.key)
                end += words
            else:
                slots.repair_later(slot)
        slots.release()
        return end

    def _hear_tops(self, message: Words, at: int, budget: Budget) -> int:
        """Of the frames that begin, the parities of all blocks."""
        slots = self.slots
        if slots.turn():
            self.wipe()
            self._make_room()
        begun = slots.fill(budget)
        if not begun.size:
            return at
        end = at + begun.size * slots.passes.top_words
        self._tops[begun] = part(message, at, end).reshape(begun.size, slots.passes.top_words)
        for slot in begun.tolist():
            self.frames.load(self.key, slots.frame(slot), self.bits[slot])
        self._original[begun] = self.bits[begun]
        self._states[begun] = 0
        return end
