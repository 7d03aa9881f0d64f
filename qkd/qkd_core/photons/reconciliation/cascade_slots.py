"""The frames of one direction in flight: which are in which slots. Both ends keep it alike.

At most `BITS_IN_FLIGHT` bits are in flight, which bounds the memory. Fewer would take more rounds,
and are no faster: measured with 128, 256 and 512 frames of 65536 bits in flight. A frame that
finishes leaves its slot to the next in the message that confirms it; those that are not confirmed
come last, under other passes.
"""

from collections import deque
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from qkd_core.photons.reconciliation.budget import Budget
from qkd_core.photons.reconciliation.cascade_passes import HASH_BITS, Agreed
from qkd_core.photons.reconciliation.frames import frame_hash
from qkd_core.types.bits import PackedBits, n_words

BITS_IN_FLIGHT = 1 << 25

Ints = npt.NDArray[np.int64]


class Slots:
    """The ``chosen`` frames, on their way through ``number`` slots.

    told       int64[number], the bits that were told of the frame in each slot
    running    int64[m], the slots whose frames are being corrected, in the order of a message
    finishing  int64[k], those whose frames wait for a verdict
    """

    def __init__(self, chosen: Iterable[int], agreed: Agreed) -> None:
        self.agreed, self.passes, self.frames = agreed, agreed.passes, agreed.frames
        self.repairing = False  # whether the frames in flight have been bad once
        self.failed = 0
        self._bad: list[tuple[int, int]] = []  # frames, and what was told of each
        self._take([(frame, 0) for frame in chosen])

    def _take(self, frames: list[tuple[int, int]]) -> None:
        self._waiting = deque(frames)
        self.number = min(len(frames), max(1, BITS_IN_FLIGHT // (64 * self.frames.words)))
        self.told = np.zeros(self.number, np.int64)
        self._frame, self._n_bits = [0] * self.number, [0] * self.number
        self.running = self.finishing = np.arange(0)
        self._free = np.arange(self.number)

    @property
    def open(self) -> bool:
        """Whether a frame has no verdict yet, or waits to be repaired."""
        waits = self._waiting or self._bad
        return bool(waits or self.running.size or self.finishing.size)

    def turn(self) -> bool:
        """Go on to the repairs, if all frames have a verdict and some need them; whether it did."""
        if not self._bad or self._waiting or self.running.size or self.finishing.size:
            return False
        self.repairing, self.passes = True, self.agreed.repairs()
        self._take(self._bad)
        self._bad = []
        return True

    def fill(self, budget: Budget) -> Ints:
        """Put the next frames into the free slots, and count the parities that this tells.

        Returns these slots, which are running now. Raises ReconciliationFailed.
        """
        begun, self._free = self._free[: len(self._waiting)], self._free[:0]
        if not begun.size:
            return begun
        total = 0
        for slot in begun.tolist():
            frame, before = self._waiting.popleft()
            self._frame[slot], self._n_bits[slot] = frame, self.frames.n_bits_of(frame)
            at_first = self.passes.told_at_first(self._n_bits[slot])
            self.told[slot] = before + at_first
            total += at_first
        budget.spend(total, total)
        self.running = np.concatenate([self.running, begun])
        return begun

    def finish(self, ended: npt.NDArray[np.bool_]) -> None:
        """Those of the running that ``ended`` says wait for a verdict from now on: hashes come."""
        self.finishing, self.running = self.running[ended], self.running[~ended]

    def release(self) -> None:
        """The finishing have their verdicts: their slots are free."""
        self._free, self.finishing = self.finishing, self.finishing[:0]

    def repair_later(self, slot: int) -> None:
        self._bad.append((self.frame(slot), int(self.told[slot])))

    def count_whole(self, slot: int, budget: Budget) -> int:
        """Count a frame as told whole; its words. Raises ReconciliationFailed.

        Parities that were told follow from it. Hashes do not: they are of the other end's frame.
        """
        n_bits = self._n_bits[slot]
        budget.spend(max(0, n_bits - int(self.told[slot])), 0)
        self.failed += 1
        return n_words(n_bits)

    def frame(self, slot: int) -> int:
        return self._frame[slot]

    def hash_of(self, slot: int, bits: PackedBits) -> int:
        """Of the frame in the slot, which is ``bits`` here."""
        n_bits = self._n_bits[slot]
        return frame_hash(self.agreed.point, bits[: n_words(n_bits)], n_bits) % (1 << HASH_BITS)
