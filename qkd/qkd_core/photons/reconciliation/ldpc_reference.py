"""The end of LDPC reconciliation whose bits are corrected to: it tells syndromes, and counts them.

The first message holds, frame after frame, the syndrome and a hash of the frame. A code may have
room for more bits than the frame: the rest are zeros, or random bits that hide as many checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ChannelError
from qkd_core.kernels.ldpc_syndrome import syndrome
from qkd_core.photons.entropy import Entropy
from qkd_core.photons.reconciliation.budget import Budget
from qkd_core.photons.reconciliation.frames import frame_hash
from qkd_core.photons.reconciliation.ldpc_frames import Frame, Scheme
from qkd_core.photons.reconciliation.ldpc_ladder import Ints
from qkd_core.types.bits import PackedBits, wipe

COUNT_BITS = 32  # of the errors that a message of verdicts reports

Words = npt.NDArray[np.uint64]


@dataclass(slots=True)
class Telling:
    """How much of one frame has been told: equal at both ends."""

    frame: Frame
    told: int
    tries: int = 0
    order: Ints = field(init=False)

    def __post_init__(self) -> None:
        scheme = self.frame.scheme
        if scheme is None:
            self.order = np.zeros(0, np.int64)
            return
        unused = scheme.key[self.frame.words.stop - self.frame.start :]
        self.order = (
            scheme.reveal[~np.isin(scheme.reveal, unused)] if unused.size else scheme.reveal
        )

    @property
    def whole(self) -> bool:
        """Whether all of it is told with the next message, or was with the last one."""
        return self.frame.scheme is None or self.tries > self.frame.scheme.rounds

    def more(self, budget: Budget) -> Ints:
        """The places of the code that are revealed next, counted; none when all of it is told."""
        self.tries += 1
        if self.frame.scheme is None or self.whole:
            places, told = self.order[:0], self.frame.n_bits
        else:
            step = self.frame.scheme.step
            places = self.order[(self.tries - 1) * step : self.tries * step]
            told = min(self.frame.n_bits, self.told + 64 * places.size)
        budget.spend(told - self.told, 0)
        self.told = told
        return places


def spread(scheme: Scheme, bits: PackedBits) -> Words:
    """The words of the code with ``bits`` in their places, and zeros elsewhere."""
    out = np.zeros(scheme.code.n_bits // 64, np.uint64)
    out[scheme.key[: bits.size]] = bits
    return out


class Reference:
    """The ``chosen`` frames at this end, as far as the other end has got with them."""

    def __init__(self, bits: PackedBits, chosen: Sequence[Frame], entropy: Entropy) -> None:
        self.bits = bits
        self.all = [Telling(frame, frame.told) for frame in chosen]
        self.open = [each for each in self.all if not each.whole]
        self.failed = 0
        self.n_errors = 0
        self._entropy = entropy
        self._coded: dict[int, Words] = {}

    def wipe(self) -> None:
        """Forget the key; ``bits`` are the caller's."""
        for coded in self._coded.values():
            wipe(coded)

    def first(self, point: Words, budget: Budget) -> Words:
        """The first message, uint64[n]. Raises ReconciliationFailed."""
        budget.spend(sum(each.told for each in self.all), 0)
        return np.concatenate([self._first_of(each.frame, point) for each in self.all])

    def hear_verdicts(self, body: bytes, budget: Budget) -> None:
        """Which frames are done. Raises ReconciliationFailed, ChannelError."""
        budget.spend(0, len(self.open) + COUNT_BITS)
        n_bytes = (len(self.open) + 7) // 8
        if len(body) != n_bytes + COUNT_BITS // 8:
            expected = n_bytes + COUNT_BITS // 8
            raise ChannelError(f"verdicts: {len(body)} bytes, expected {expected}")
        flags = np.frombuffer(body, np.uint8, n_bytes)
        done = np.unpackbits(flags, bitorder="little")
        if done[len(self.open) :].any():
            raise ChannelError("verdicts: of more frames than are open")
        if any(each.whole and not good for each, good in zip(self.open, done, strict=False)):
            raise ChannelError("verdicts: a frame that was told whole is not done")
        n_errors = int.from_bytes(body[n_bytes:], "little")
        self.n_errors += n_errors
        if self.n_errors > sum(each.frame.n_bits for each in self.all):
            raise ChannelError(f"verdicts: {n_errors} errors, more than there are bits")
        self.open = [each for each, good in zip(self.open, done, strict=False) if not good]

    def reveal(self, budget: Budget) -> Words:
        """More of each open frame, uint64[n]. Raises ReconciliationFailed."""
        out = []
        for each in self.open:
            places = each.more(budget)
            if each.whole:
                self.failed += 1
                out.append(self.bits[each.frame.words])
            else:
                out.append(self._coded[each.frame.start][places])
        return np.concatenate(out)

    def _first_of(self, frame: Frame, point: Words) -> Words:
        bits = self.bits[frame.words]
        scheme = frame.scheme
        if scheme is None:
            return bits
        coded = spread(scheme, bits)
        coded[scheme.fill] = np.frombuffer(self._entropy(8 * scheme.fill.size), "<u8")
        if scheme.rounds:
            self._coded[frame.start] = coded
        code = scheme.code
        out = np.empty(frame.told_words, np.uint64)
        syndrome(coded, code.lanes, code.ends, code.column, code.shift, out)
        out[-1] = frame_hash(point, bits, frame.n_bits)
        if not scheme.rounds:
            wipe(coded)
        return out
