"""The end of Cascade whose bits are corrected: it asks for parities until no block is odd.

Its part of a message, in words: a header for each frame that is not finished (uint32, see
`kernels.cascade_corrector.advance`), the boundaries asked for (uint16 or uint32), and, for each
frame that finishes, a hash of it and how many bits were flipped. The number of flips says nothing
that the questions have not said.
"""

from collections.abc import Sequence

import numpy as np

from qkd_core.errors import ChannelError, ReconciliationFailed
from qkd_core.kernels.cascade_corrector import (
    FLIPPED,
    INTERVALS,
    NOT_CONSISTENT,
    STATE,
    TOLD,
    advance,
)
from qkd_core.photons.reconciliation.budget import Budget
from qkd_core.photons.reconciliation.cascade_passes import HASH_BITS, Passes
from qkd_core.photons.reconciliation.cascade_reference import (
    BAD,
    GOOD,
    Words,
    boundaries_per_word,
    part,
)
from qkd_core.photons.reconciliation.frames import Frames, frame_hash
from qkd_core.types.bits import PackedBits, n_words, wipe


class Corrector:
    """The ``chosen`` frames at this end, as far as they are corrected.

    Of each frame it keeps 3 words for every word and pass, and 2 more: with 65536 bits about 0.3 MB
    (fast4) or 0.4 MB (tight9).
    """

    def __init__(
        self, bits: PackedBits, frames: Frames, chosen: Sequence[int], passes: Passes, point: Words
    ) -> None:
        n, number, words = len(chosen), passes.number, frames.words
        self.frames, self.chosen, self.passes, self.point = frames, chosen, passes, point
        self.bits = frames.spread(bits, chosen)
        self.open = np.arange(n)  # those without a verdict
        self.failed = 0
        self.n_errors = 0
        self._headers = np.empty(n, np.uint32)
        self._totals = np.zeros(3, np.int64)
        self._expected = 0  # words of answers
        self._spent = 0, 0  # on the questions: about the key, about the errors
        self._running = self.open
        self._finishing = self.open[:0]
        self._answers: Words = np.zeros(0, np.uint64)
        self._answers_at = 0
        self._tops: Words | None = None
        self._original = self.bits.copy()
        self._ours = np.empty(n * number * words, np.uint64)
        self._known = np.empty(2 * n * number * words, np.uint64)
        blocks = n * int(passes.block_at[-1])
        self._odd, self._listed = np.empty(blocks, np.uint8), np.empty(blocks, np.int32)
        self._n_listed = np.zeros(n * number, np.int64)
        self._intervals = np.empty(n * passes.most, np.uint64)
        self._errors = np.empty(n * passes.most, np.uint32)
        self._states = np.zeros(n * STATE, np.int64)
        self._scratch = np.empty(2 * words + 64, np.uint64)
        self._asked = np.empty(n * passes.most, np.uint32)

    def wipe(self) -> None:
        """Forget the key."""
        for array in (self.bits, self._original, self._ours, self._scratch):
            wipe(array)

    @property
    def longest(self) -> int:
        """Words that a part of a message takes at most."""
        n = len(self.chosen)
        return n * (3 + -(-self.passes.most // boundaries_per_word(self.frames))) + 1

    def hear(self, message: Words, at: int, budget: Budget) -> int:
        """Read answers and verdicts from ``message[at]`` on; returns where they end.

        Raises ReconciliationFailed, ChannelError.
        """
        if self._tops is None:
            return self._hear_first(message, at, budget)
        if not self.open.size:
            return at
        end = at + self._expected
        part(message, at, end)
        self._answers, self._answers_at = message, at
        if not self._finishing.size:
            return end
        verdicts = part(message, end, end + self._finishing.size)
        if int(verdicts.max()) > max(GOOD, BAD):
            raise ChannelError(f"parities: a verdict of {verdicts.max()}")
        budget.spend(0, verdicts.size)
        end += verdicts.size
        for frame in self._finishing[verdicts == BAD]:
            end = self._hear_whole(frame, message, end, budget)
        self.open = self._running
        self._finishing = self.open[:0]
        return end

    def ask(self, out: Words, at: int) -> int:
        """Go on with the answers, and write the next questions from ``out[at]`` on.

        Returns where they end. Raises ReconciliationFailed.
        """
        if self._tops is None or not self._running.size:
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

    def _tell_hashes(self, out: Words, at: int) -> int:
        states = self._states.reshape(-1, STATE)
        ended = states[self._running, INTERVALS] == 0
        self._finishing, self._running = self._running[ended], self._running[~ended]
        for frame in self._finishing:
            flipped = int(states[frame, FLIPPED])
            out[at], out[at + 1] = self._hash(frame), flipped
            self.n_errors += flipped
            at += 2
        states[self._finishing, TOLD] += HASH_BITS
        return at

    def _advance(self, out: Words, at: int) -> int:
        passes = self.passes
        end: int = advance(
            self.frames.words, passes.top_words, boundaries_per_word(self.frames),
            passes.block_bits, passes.reciprocals, passes.n_blocks, passes.block_at, passes.tables,
            self._tops, self._running, self._answers, self._answers_at, passes.most,
            self._original, self.bits, self._ours, self._known, self._odd, self._listed,
            self._n_listed, self._intervals, self._errors, self._states, self._scratch,
            self._headers, self._asked, self._totals, out, at,
        )  # fmt: skip
        if end == NOT_CONSISTENT:
            raise ReconciliationFailed("parities contradict each other: a bit errs twice")
        return end

    def _hear_first(self, message: Words, at: int, budget: Budget) -> int:
        end = at + len(self.chosen) * self.passes.top_words
        self._tops = part(message, at, end).copy()
        for i, frame in enumerate(self.chosen):
            self._states[i * STATE + TOLD] = self.passes.told_at_first(self.frames.n_bits_of(frame))
        total = int(self._states[TOLD::STATE].sum())
        budget.spend(total, total)
        return end

    def _hear_whole(self, frame: int, message: Words, at: int, budget: Budget) -> int:
        n_bits = self.frames.n_bits_of(self.chosen[frame])
        budget.spend(max(0, n_bits - int(self._states[frame * STATE + TOLD])), 0)
        self.failed += 1
        start, words = frame * self.frames.words, n_words(n_bits)
        self.bits[start : start + words] = part(message, at, at + words)
        return at + words

    def _hash(self, frame: int) -> int:
        n_bits = self.frames.n_bits_of(self.chosen[frame])
        start = frame * self.frames.words
        bits = self.bits[start : start + n_words(n_bits)]
        return frame_hash(self.point, bits, n_bits) % (1 << HASH_BITS)
