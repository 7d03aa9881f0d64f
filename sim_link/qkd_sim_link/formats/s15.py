"""S-Fifteen a0, a1 and a2, in either order of the two halves of a word.

An event is one 64-bit word: 54 bits of time in 1/256 ns, ten bits of which the lowest four say
which detectors fired and the fifth that none did. a1 holds it in binary, a0 as two lines of eight
hexadecimal digits, a2 as one of sixteen; the names that end in x have the upper half first
(a1, a0) or last (a2), as older programs write a1. Source: the readers of fpfind
(github.com/s-fifteen-instruments/fpfind) and recorded files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from qkd_sim_link.formats import s15_kernels as kernels
from qkd_sim_link.formats.recording import (
    RECORDS_A_BATCH,
    TIME_MAX,
    TagBatch,
    TagInfo,
    TagsUnreadable,
    bytes_in,
    frozen_zeros,
    opened,
)

TICK = Fraction(125, 32)  # ps, 1/256 ns
WORD_BYTES = 8
WORD_DIGITS = 16
DETECTORS = 4

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a file holds a word: in binary, or in this many lines; with its halves exchanged?"""

    name: str
    lines: int = 0
    exchanged: bool = False

    @property
    def digits(self) -> int:
        """In a line."""
        return WORD_DIGITS // self.lines if self.lines else 0


# As text, low half first is the plain order of a0, high half first that of a2.
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(name="s15-a0", lines=2, exchanged=True),
        Layout(name="s15-a0x", lines=2),
        Layout(name="s15-a1"),
        Layout(name="s15-a1x", exchanged=True),
        Layout(name="s15-a2", lines=1),
        Layout(name="s15-a2x", lines=1, exchanged=True),
    )
}


class S15File:
    """One file. Raises TagsUnreadable."""

    def __init__(self, path: Path, layout: Layout) -> None:
        n_bytes = bytes_in(path)
        self._path, self._layout = path, layout
        self._end = 0  # bytes of a line's end
        with opened(path) as file:
            if layout.lines:
                self._end = line_end(file.read(layout.digits + 2)[layout.digits :])
        self._bytes_a_word = (
            layout.lines * (layout.digits + self._end) if layout.lines else WORD_BYTES
        )
        self._n_words, self._tail = divmod(n_bytes + self._missing_end(n_bytes), self._bytes_a_word)
        self.info = TagInfo(
            format=layout.name, device="S-Fifteen", tick=TICK, n_records=self._n_words
        )

    def batches(self, records: int = RECORDS_A_BATCH) -> Iterator[TagBatch]:
        """All records as `TagFile.batches` says; dummies are left out and counted."""
        base, before, done = 0, -1, 0
        no_aux = frozen_zeros(DETECTORS * min(records, self._n_words))
        with opened(self._path) as file:
            while done < self._n_words:
                words = self._words(file, min(records, self._n_words - done), done)
                if words.size == 0:
                    break
                batch, base, before = _expanded(words, base, before, no_aux)
                if before > TIME_MAX:
                    raise self._at(done, "its time is past 2^62 ticks")
                yield batch
                done += words.size
        if done < self._n_words or self._tail:
            raise self._at(done, f"the file ends within a record of {self._bytes_a_word} bytes")

    def _words(self, file: BinaryIO, n: int, done: int) -> Words:
        content = file.read(n * self._bytes_a_word)
        if not self._layout.lines:
            whole = len(content) // WORD_BYTES * WORD_BYTES
            return in_order(np.frombuffer(content[:whole], "<u8"), self._layout)
        content += b"\n" * (-len(content) % self._bytes_a_word)
        digits, n_lines = self._layout.digits, self._layout.lines
        numbers = np.empty(len(content) // self._bytes_a_word * n_lines, np.uint64)
        bad = kernels.read_lines(np.frombuffer(content, np.uint8), digits, self._end, numbers)
        if bad >= 0:
            line = done * n_lines + bad
            place = f"line {line + 1:,} at byte {line * (digits + self._end):,}"
            raise TagsUnreadable(self._path, place, f"no line of {digits} hexadecimal digits")
        return in_order(numbers.reshape(-1, n_lines), self._layout)

    def _missing_end(self, n_bytes: int) -> int:
        """What the last line lacks of its end, in bytes."""
        if not self._layout.lines:
            return 0
        line = self._layout.digits + self._end
        return self._end if n_bytes % line == self._layout.digits else 0

    def _at(self, record: int, what: str) -> TagsUnreadable:
        place = f"record {record:,} at byte {record * self._bytes_a_word:,}"
        return TagsUnreadable(self._path, place, what)


def line_end(after: bytes) -> int:
    """How many bytes end a line, from those that follow its digits."""
    return 2 if after.startswith(b"\r\n") else 1


def in_order(found: npt.NDArray[np.uint64], layout: Layout) -> Words:
    """Words, from binary ones, or from lines uint64[n, lines] with the first one on the left."""
    if found.ndim > 1:
        found = found[:, 0] if layout.lines == 1 else found[:, 0] << np.uint64(32) | found[:, 1]
    half = np.uint64(32)
    return found << half | found >> half if layout.exchanged else found


def write_s15(path: Path, layout: Layout, words: Words) -> None:
    """Write ``words``, which `packed` makes."""
    stored = in_order(words, Layout(name="", exchanged=layout.exchanged))
    if not layout.lines:
        stored.astype("<u8").tofile(path)
        return
    with path.open("w", encoding="ascii", newline="\n") as file:
        for word in stored:
            text = f"{word:016x}"
            step = layout.digits
            file.writelines(f"{text[i : i + step]}\n" for i in range(0, WORD_DIGITS, step))


def packed(time: npt.NDArray[np.int64], pattern: npt.NDArray[np.uint8]) -> Words:
    """Words of events: int64[n] ticks from 0 to 2^54 - 1, uint8[n] the low bits of the word."""
    return time.astype(np.uint64) << np.uint64(10) | pattern.astype(np.uint64)


def _expanded(
    words: Words, base: int, before: int, no_aux: npt.NDArray[np.uint16]
) -> tuple[TagBatch, int, int]:
    room = DETECTORS * words.size
    time, channel = np.empty(room, np.int64), np.empty(room, np.uint8)
    n, after, last, nothing, patterns = kernels.expand(words, base, before, time, channel)
    batch = TagBatch(
        time=time[:n],
        channel=channel[:n],
        flags=np.zeros(n, np.uint8),
        aux=no_aux[:n],
        n_records=words.size,
        overflows=int(after != base),
        left_out=nothing,
        patterns=patterns,
    )
    return batch, after, last
