"""The end of LDPC reconciliation that corrects its bits, by syndromes that the other end tells.

What it says follows from the errors and the public point alone: the decoder treats zeros and ones
alike, and whether a hash agrees depends on the difference of two frames, right or wrong.
"""

from collections.abc import Sequence
from math import log

import numpy as np

from qkd_core.errors import ChannelError
from qkd_core.kernels.ldpc_decoder import (
    BELIEF_STEP,
    CERTAIN,
    believe,
    decided,
    decode,
    signs_of,
    stride,
)
from qkd_core.kernels.ldpc_vectors import LANES
from qkd_core.photons.reconciliation.budget import Budget
from qkd_core.photons.reconciliation.frames import frame_hash
from qkd_core.photons.reconciliation.ldpc_frames import Frame, planned
from qkd_core.photons.reconciliation.ldpc_ladder import Code, Ints
from qkd_core.photons.reconciliation.ldpc_reference import (
    COUNT_BITS,
    Telling,
    Words,
    spread,
)
from qkd_core.types.bits import PackedBits, wipe

MOST_SWEEPS = 200
PATIENCE = 25  # sweeps without progress
PATIENCE_BEFORE_MORE = 12  # when more bits may be revealed: they help sooner than waiting


class Decoder:
    """What is believed of one frame, and what its rows said last."""

    def __init__(self, code: Code, checks: Words) -> None:
        self.code = code
        self.beliefs = np.zeros(code.columns * stride(code.lanes), np.int16)
        self.messages = np.zeros(code.column.size * code.lanes, np.int8)
        self.signs = np.empty(code.n_checks, np.int16)
        signs_of(checks, self.signs)
        self.scratch = np.empty(2 * LANES * int(np.diff(code.ends).max()), np.int16)

    def believe(self, places: Ints, words: Words, strength: int) -> None:
        believe(self.beliefs, self.code.lanes, places, words, strength)

    def decode(self, patience: int = PATIENCE) -> Words | None:
        """The words that satisfy all checks, or None."""
        code = self.code
        sweeps = decode(
            self.beliefs, self.messages, self.signs, self.scratch, code.lanes,
            code.ends, code.column, code.shift, MOST_SWEEPS, patience,
        )  # fmt: skip
        if sweeps < 0:
            return None
        out = np.empty(code.n_bits // 64, np.uint64)
        decided(self.beliefs, code.lanes, out)
        return out


class Correcting:
    """One frame, from its first message on."""

    def __init__(self, frame: Frame, bits: PackedBits, message: Words, qber: float) -> None:
        self.telling = Telling(frame, frame.told)
        self.frame, self.bits = frame, bits
        self.corrected: PackedBits | None = None
        scheme = frame.scheme
        if scheme is None:
            self.take_whole(message)
            return
        self.hash = int(message[-1])
        self.decoder = Decoder(scheme.code, message[:-1])
        strength = round(BELIEF_STEP * log((1 - qber) / qber))
        coded = spread(scheme, bits)
        self.decoder.believe(scheme.key[: bits.size], coded[scheme.key[: bits.size]], strength)
        zeros = scheme.key[bits.size :]
        self.decoder.believe(zeros, coded[zeros], CERTAIN)
        wipe(coded)

    def wipe(self) -> None:
        """Forget the key."""
        if self.frame.scheme is not None:
            wipe(self.decoder.beliefs)
            wipe(self.decoder.messages)

    def take_whole(self, message: Words) -> None:
        """The other end's bits. Raises ChannelError."""
        if _beyond(message, self.frame.n_bits):
            raise ChannelError("a frame that is told whole has bits beyond its end")
        self.corrected = message

    def take_more(self, message: Words, places: Ints) -> None:
        self.decoder.believe(places, message, CERTAIN)

    def work(self, point: Words) -> None:
        """Decode, unless it is done."""
        scheme = self.frame.scheme
        if self.corrected is not None or scheme is None:
            return
        last = self.telling.tries >= scheme.rounds
        coded = self.decoder.decode(PATIENCE if last else PATIENCE_BEFORE_MORE)
        if coded is None:
            return
        found = coded[scheme.key[: self.bits.size]]
        n_bits = self.frame.n_bits
        if not _beyond(found, n_bits) and frame_hash(point, found, n_bits) == self.hash:
            self.corrected = found

    @property
    def done(self) -> bool:
        return self.corrected is not None


def _beyond(bits: PackedBits, n_bits: int) -> bool:
    """Whether bits are set behind the last one."""
    return bool(n_bits % 64 and bits[-1] >> np.uint64(n_bits % 64))


class Corrector:
    """The ``chosen`` frames at this end."""

    def __init__(self, bits: PackedBits, chosen: Sequence[Frame], qber: float) -> None:
        self.bits, self.chosen, self.qber = bits.copy(), chosen, planned(qber)
        self.open: list[Correcting] = []
        self.failed = 0
        self.n_errors = 0
        self._found = 0
        self._point = np.zeros(0, np.uint64)

    def wipe(self) -> None:
        """Forget what is believed of frames that are not done; ``bits`` are the caller's."""
        for each in self.open:
            each.wipe()

    def hear_first(self, message: Words, point: Words, budget: Budget) -> None:
        """The first message. Raises ReconciliationFailed, ChannelError."""
        budget.spend(sum(frame.told for frame in self.chosen), 0)
        _expect("syndrome", message, sum(frame.told_words for frame in self.chosen))
        self._point = point
        at = 0
        for frame in self.chosen:
            part = message[at : at + frame.told_words]
            at += part.size
            each = Correcting(frame, self.bits[frame.words], part, self.qber)
            if each.done:
                self._close(each)
            else:
                self.open.append(each)

    def verdicts(self, budget: Budget) -> bytes:
        """Decode what is open, and say what is done. Raises ReconciliationFailed."""
        budget.spend(0, len(self.open) + COUNT_BITS)
        done = np.zeros(len(self.open), np.uint8)
        for i, each in enumerate(self.open):
            each.work(self._point)
            done[i] = each.done
            if each.done:
                self._close(each)
        self.open = [each for each in self.open if not each.done]
        self.n_errors += self._found
        found, self._found = self._found, 0
        return np.packbits(done, bitorder="little").tobytes() + found.to_bytes(4, "little")

    def hear_more(self, message: Words, budget: Budget) -> None:
        """What is revealed of the open frames. Raises ReconciliationFailed, ChannelError."""
        parts = [each.telling.more(budget) for each in self.open]
        sizes = [
            self.bits[each.frame.words].size if each.telling.whole else places.size
            for each, places in zip(self.open, parts, strict=True)
        ]
        _expect("revealed", message, sum(sizes))
        at = 0
        for each, places, size in zip(self.open, parts, sizes, strict=True):
            part = message[at : at + size]
            at += size
            if each.telling.whole:
                self.failed += 1
                each.take_whole(part)
            else:
                each.take_more(part, places)

    def _close(self, each: Correcting) -> None:
        words, corrected = self.bits[each.frame.words], each.corrected
        if corrected is None:
            raise ValueError("a frame that is not done cannot be closed")
        self._found += int(np.bitwise_count(words ^ corrected).sum())
        words[:] = corrected
        each.wipe()


def _expect(name: str, message: Words, n: int) -> None:
    if message.size != n:
        raise ChannelError(f"{name}: {8 * message.size} bytes, expected {8 * n}")
