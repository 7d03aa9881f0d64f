"""Read our own files of time tags and verify every promise that their headers make."""

from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from qkd_sim_link.formats import native
from qkd_sim_link.formats.json_lines import bytes_left, line_of, object_of, short
from qkd_sim_link.formats.native import BatchHeader, Stream, Tags
from qkd_sim_link.formats.recording import (
    RECORDS_A_BATCH,
    TAG,
    TagBatch,
    TagInfo,
    TagsUnreadable,
    bytes_in,
    opened,
)

TEXTS = ("link", "side", "driver", "cfg_digest")
END = {"end", "batches", "sha256"}


class NativeFile:
    """One file. Raises TagsUnreadable."""

    def __init__(self, path: Path) -> None:
        bytes_in(path)
        self._path = path
        with opened(path) as file:
            line = line_of(file, path)
            first = object_of(line, path, "line 1")
        if first.get("format") != native.FORMAT or first.get("version") != native.FORMAT_VERSION:
            told = f"format {first.get('format')!r}, version {first.get('version')!r}"
            known = f"{native.FORMAT!r}, version {native.FORMAT_VERSION}"
            raise TagsUnreadable(path, "line 1", f"{told}; known is {known}")
        self.stream = self._stream(first, "line 1")
        self._first = line
        self.info = TagInfo(
            format="native",
            device=self.stream.driver,
            tick=self.stream.tick,
            header=first,
        )

    def batches(self, records: int = RECORDS_A_BATCH) -> Iterator[TagBatch]:
        """All tags as `TagFile.batches` says, each batch after its hash was verified."""
        for header, tags in self.chained():
            yield from native.as_batches(tags, header.missed, records)

    def chained(self) -> Iterator[tuple[BatchHeader, Tags]]:
        """Each batch with its header. Raises TagsUnreadable."""
        before, seq = sha256(self._first).hexdigest(), -1
        watermark = native.TIMES[0]
        n = 0
        with opened(self._path) as file:
            line_of(file, self._path)
            while True:
                place = f"batch {n:,} at byte {file.tell():,}"
                members = object_of(line_of(file, self._path), self._path, place)
                if set(members) == END:
                    self._ended(file, members, n, before)
                    return
                header, told = self._header(members, place)
                content = file.read(header.n * TAG.itemsize)
                if len(content) < header.n * TAG.itemsize:
                    raise TagsUnreadable(self._path, place, f"the file ends in {header.n:,} tags")
                if header.prev_sha256 != before:
                    raise TagsUnreadable(self._path, place, "does not follow the batch before it")
                before = native.digest(members, content)
                if told != before:
                    raise TagsUnreadable(self._path, place, "its hash is not that of its content")
                tags = np.frombuffer(content, TAG)
                broken = self._broken(header, tags, seq, watermark)
                if broken:
                    raise TagsUnreadable(self._path, place, broken)
                yield header, tags
                seq, watermark = header.seq, max(watermark, header.watermark)
                n += 1

    def _broken(self, header: BatchHeader, tags: Tags, seq: int, watermark: int) -> str:
        """The promise that a batch breaks, or nothing."""
        if header.seq <= seq or (header.seq > seq + 1 and not header.missed):
            return f"seq is {header.seq}, after {seq}, with {header.missed} events missed"
        return broken_by_tags(header, tags, watermark) if header.n else ""

    def _header(self, members: dict[str, Any], place: str) -> tuple[BatchHeader, object]:
        """The checked header and the hash it tells, which leaves ``members``."""
        told = members.pop("sha256", None)
        if self._stream(members, place) != self.stream:
            raise TagsUnreadable(self._path, place, "belongs to another stream than line 1")
        for name, (low, high) in native.RANGES.items():
            value = members.get(name)
            if type(value) is not int or not low <= value <= high:
                told_range = f"{name} is {short(value)}, allowed are {low} to {high}"
                raise TagsUnreadable(self._path, place, told_range)
        if type(members.get("sorted")) is not bool:
            raise TagsUnreadable(self._path, place, "sorted is neither true nor false")
        if members.get("clock_state") not in native.CLOCK_STATES:
            state = short(members.get("clock_state"))
            raise TagsUnreadable(self._path, place, f"clock_state is {state}")
        names = (*native.RANGES, "sorted", "clock_state", "prev_sha256")
        unknown = set(members) - set(names) - set(self.stream.members())
        if unknown or not isinstance(members.get("prev_sha256"), str):
            what = f"unknown member {min(unknown)!r}" if unknown else "prev_sha256 is missing"
            raise TagsUnreadable(self._path, place, what)
        return BatchHeader(**{name: members[name] for name in names}), told

    def _stream(self, members: dict[str, Any], place: str) -> Stream:
        texts = {name: members.get(name) for name in (*TEXTS, "tick")}
        for name, value in texts.items():
            if not isinstance(value, str):
                raise TagsUnreadable(self._path, place, f"{name} is {short(value)}, not a text")
        try:
            tick = Fraction(str(texts.pop("tick")))
        except (ValueError, ZeroDivisionError) as error:
            raise TagsUnreadable(self._path, place, "tick is no fraction of ps") from error
        if not Fraction(1, 1000) <= tick <= 10**12:
            raise TagsUnreadable(self._path, place, f"tick is {tick} ps, allowed are 0.001 to 1e12")
        return Stream(tick=tick, **{name: str(value) for name, value in texts.items()})

    def _ended(self, file: BinaryIO, members: dict[str, Any], n: int, before: str) -> None:
        place = f"end after batch {n:,}"
        if members != {"end": True, "batches": n, "sha256": before}:
            raise TagsUnreadable(self._path, place, "the last line is not that of these batches")
        if left := bytes_left(file):
            raise TagsUnreadable(self._path, place, f"{left:,} more bytes follow the last line")


def broken_by_tags(header: BatchHeader, tags: Tags, watermark: int) -> str:
    """The promise that the tags of a batch, which has some, break; or nothing.

    watermark  of the batches before
    """
    time = tags["t"]
    begin, low, high = int(time[0]), int(time.min()), int(time.max())
    if begin != header.t_first:
        return f"t_first is {header.t_first}, its first tag is at {begin}"
    if not native.TIMES[0] <= low <= high <= native.TIMES[1]:
        return "a time is outside -2^62 to 2^62 ticks"
    if low < watermark:
        return f"a tag at {low} is before the watermark {watermark}"
    if header.sorted != native.rising(time):
        return f"sorted is {str(header.sorted).lower()}, and its tags are not so"
    return "a tag has an unknown flag" if native.unknown_flags(tags) else ""
