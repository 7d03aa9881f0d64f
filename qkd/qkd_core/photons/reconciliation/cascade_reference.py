"""The end of Cascade whose bits are corrected to: it tells what is asked, and counts it.

Its part of a message, in words: at first the parities of all blocks of all its frames; then, in
the order of the questions, the answers (each frame starts a word), a word for each frame whose
hash came (`GOOD` or `BAD`), and the bits of the bad ones.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ChannelError
from qkd_core.kernels.cascade_reference import FINISHED, answer, open_reference
from qkd_core.photons.reconciliation.budget import Budget
from qkd_core.photons.reconciliation.cascade_passes import HASH_BITS, Passes
from qkd_core.photons.reconciliation.frames import Frames, frame_hash
from qkd_core.types.bits import PackedBits, n_words, wipe

GOOD, BAD = 0, 1
SHORT_BITS = 1 << 16  # a boundary of a frame of so many bits takes two bytes, else four

Words = npt.NDArray[np.uint64]


def boundaries_per_word(frames: Frames) -> int:
    """How many boundaries a word of a message holds."""
    return 4 if 64 * frames.words <= SHORT_BITS else 2


class Reference:
    """The ``chosen`` frames at this end, as far as the other end has got with them."""

    def __init__(
        self, bits: PackedBits, frames: Frames, chosen: Sequence[int], passes: Passes, point: Words
    ) -> None:
        self.frames, self.chosen, self.passes, self.point = frames, chosen, passes, point
        self.bits = frames.spread(bits, chosen)
        self.open = np.arange(len(chosen))
        self.failed = 0
        self.n_errors = 0
        self._told = np.zeros(len(chosen), np.int64)
        self._totals = np.zeros(3, np.int64)
        self._answered = 0
        self._running, self._finishing = self.open, self.open[:0]
        self._hashes: Words = np.zeros(0, np.uint64)
        self._prefixes = np.empty(self.bits.size * passes.number, np.uint64)
        self._scratch = np.empty(2 * frames.words + 64, np.uint64)
        self._begun = False

    def wipe(self) -> None:
        """Forget the key."""
        for array in (self.bits, self._prefixes, self._scratch):
            wipe(array)

    @property
    def longest(self) -> int:
        """Words that a part of a message takes at most."""
        n, passes = len(self.chosen), self.passes
        return n * (1 + max(passes.top_words, n_words(passes.most)) + self.frames.words)

    def hear(self, message: Words, at: int, budget: Budget, out: Words) -> int:
        """Read the questions from ``message[at]`` on and write the answers to the start of ``out``.

        Returns where the questions end. Raises ReconciliationFailed, ChannelError.
        """
        if not self._begun or not self.open.size:
            return at
        self._answered = answer(
            message, at, boundaries_per_word(self.frames), self.passes.n_blocks, self.open,
            self._prefixes, self.frames.words, self._told, self._totals, out,
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
        if not self._begun:
            return self._tell_first(out, budget)
        at, self._answered = self._answered, 0
        if not self._finishing.size:
            return at
        bad = []
        budget.spend(0, self._finishing.size)
        for frame, theirs in zip(self._finishing, self._hashes, strict=True):
            good = self._hash(frame) == theirs
            out[at] = GOOD if good else BAD
            bad += [] if good else [frame]
            at += 1
        for frame in bad:
            at = self._tell_whole(frame, out, at, budget)
        self.open = self._running
        self._finishing = self.open[:0]
        return at

    def _hear_hashes(self, message: Words, at: int, end: int) -> int:
        """Of each frame that finishes: the hash, and how many bits were flipped."""
        headers = message[at : at + (self.open.size + 1) // 2].view(np.uint32)[: self.open.size]
        ended = headers == FINISHED
        self._finishing, self._running = self.open[ended], self.open[~ended]
        closing = part(message, end, end + 2 * self._finishing.size)
        self._hashes, flipped = closing[::2], closing[1::2]
        if int(flipped.max()) > 64 * self.frames.words:
            raise ChannelError(f"parities: {flipped.max()} bits flipped in one frame")
        self._told[self._finishing] += HASH_BITS
        self.n_errors += int(flipped.sum())
        return end + closing.size

    def _tell_first(self, out: Words, budget: Budget) -> int:
        passes, words = self.passes, self.frames.words
        end = len(self.chosen) * passes.top_words
        open_reference(self.bits, words, passes.tables, passes.block_bits, passes.n_blocks,
                       self._prefixes, out[:end], self._scratch)  # fmt: skip
        for i, frame in enumerate(self.chosen):
            self._told[i] = passes.told_at_first(self.frames.n_bits_of(frame))
        total = int(self._told.sum())
        budget.spend(total, total)
        self._begun = True
        return end

    def _tell_whole(self, frame: int, out: Words, at: int, budget: Budget) -> int:
        n_bits = self.frames.n_bits_of(self.chosen[frame])
        budget.spend(max(0, n_bits - int(self._told[frame])), 0)
        self.failed += 1
        start, words = frame * self.frames.words, n_words(n_bits)
        out[at : at + words] = self.bits[start : start + words]
        return at + words

    def _hash(self, frame: int) -> int:
        n_bits = self.frames.n_bits_of(self.chosen[frame])
        start = frame * self.frames.words
        bits = self.bits[start : start + n_words(n_bits)]
        return frame_hash(self.point, bits, n_bits) % (1 << HASH_BITS)


def part(message: Words, start: int, stop: int) -> Words:
    """``message[start:stop]``; ChannelError if it ends before."""
    if stop > message.size:
        raise ChannelError(f"parities: {8 * message.size} bytes, {8 * stop} or more expected")
    return message[start:stop]
