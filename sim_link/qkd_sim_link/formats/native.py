"""Our own file of time tags: lines of JSON with the tags between them, chained by SHA-256.

The first line names the stream. Each batch is a line, its header, and ``n`` tags of dtype TAG.
A batch's ``sha256`` covers its header without that member, in the canonical form of
`canonical`, and its tags; ``prev_sha256`` is that of the batch before, or of the first line. The
last line counts the batches, so a file that was cut between two batches is seen to be.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError
from qkd_core.types.device import ClockState
from qkd_sim_link.formats.recording import FLAGS, RECORDS_A_BATCH, TIME_MAX, TagBatch

FORMAT, FORMAT_VERSION = "keyferry-tags", 1
LINE_BYTES_MAX = 1 << 16
TAGS_A_BATCH_MAX = 1 << 20
CLOCK_STATES = tuple(state.value for state in ClockState)
TIMES = (-TIME_MAX, TIME_MAX)
COUNTS = (0, TIME_MAX)

Tags = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What stays the same throughout a file; another configuration is another stream."""

    link: str
    side: str
    driver: str
    tick: Fraction  # ps
    cfg_digest: str

    def members(self) -> dict[str, object]:
        """As JSON has them."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return told | {"tick": str(self.tick)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHeader:
    """What a batch says of itself.

    epoch, seq   of the batch; ``seq`` counts by one unless events are missed between
    t_first      time of its first tag, ticks; its watermark when it has none
    watermark    no later batch has a tag before it, ticks
    n, missed    tags in the batch, and events that the device lost before its end
    sorted       whether its tags rise in time
    clock_state  one of CLOCK_STATES
    """

    epoch: int
    seq: int
    t_first: int
    watermark: int
    n: int
    missed: int
    sorted: bool
    clock_state: str
    prev_sha256: str


RANGES = {
    "epoch": COUNTS,
    "seq": COUNTS,
    "t_first": TIMES,
    "watermark": TIMES,
    "n": (0, TAGS_A_BATCH_MAX),
    "missed": COUNTS,
}


class Chain:
    """Makes headers one after the other, each with the hash of the batch before."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.n_batches = 0
        self.before = hashlib.sha256(first_line(stream)).hexdigest()

    def follow(
        self,
        tags: Tags,
        *,
        watermark: int,
        epoch: int = 0,
        missed: int = 0,
        clock_state: str = "unknown",
    ) -> BatchHeader:
        """The header of the next batch; its hash is ``before`` then.

        Raises ConfigError for too many tags, or an unknown state.
        """
        if tags.size > TAGS_A_BATCH_MAX:
            raise ConfigError(f"{tags.size:,} tags in a batch, allowed are {TAGS_A_BATCH_MAX:,}")
        if clock_state not in CLOCK_STATES:
            raise ConfigError(f"clock state {clock_state!r}, allowed are {', '.join(CLOCK_STATES)}")
        header = BatchHeader(
            epoch=epoch,
            seq=self.n_batches,
            t_first=int(tags["t"][0]) if tags.size else watermark,
            watermark=watermark,
            n=tags.size,
            missed=missed,
            sorted=rising(tags["t"]),
            clock_state=clock_state,
            prev_sha256=self.before,
        )
        self.before = digest(header_members(self.stream, header), content_of(tags))
        self.n_batches += 1
        return header


class NativeWriter:
    """Writes a file batch by batch; use it in a ``with`` statement, whose good end ends the file.

    A file without its last line reads as one that was cut short.
    """

    def __init__(self, path: Path, stream: Stream) -> None:
        self._chain = Chain(stream)
        self._file: BinaryIO = path.open("wb")
        self._file.write(first_line(stream) + b"\n")

    def __enter__(self) -> "NativeWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            chain = self._chain
            end = {"end": True, "batches": chain.n_batches, "sha256": chain.before}
            self._file.write(canonical(end) + b"\n")
        self._file.close()

    def write(
        self,
        tags: Tags,
        *,
        watermark: int,
        epoch: int = 0,
        missed: int = 0,
        clock_state: str = "unknown",
    ) -> BatchHeader:
        """Append tags of dtype TAG. Raises ConfigError for too many, or an unknown state."""
        chain = self._chain
        header = chain.follow(
            tags, watermark=watermark, epoch=epoch, missed=missed, clock_state=clock_state
        )
        members = header_members(chain.stream, header) | {"sha256": chain.before}
        self._file.write(canonical(members) + b"\n")
        self._file.write(content_of(tags))
        return header


def first_line(stream: Stream) -> bytes:
    """The line that names the stream, without its end; its hash begins the chain."""
    return canonical({"format": FORMAT, "version": FORMAT_VERSION} | stream.members())


def content_of(tags: Tags) -> memoryview:
    """The bytes of tags of dtype TAG, which are not copied when they are in one piece."""
    return np.ascontiguousarray(tags).view(np.uint8).data


def header_members(stream: Stream, header: BatchHeader) -> dict[str, Any]:
    """All that stands in a batch's line but its own hash."""
    told = {each.name: getattr(header, each.name) for each in fields(header)}
    return stream.members() | told


def canonical(members: dict[str, Any]) -> bytes:
    """The one form in which a header is written and hashed: sorted, without spaces, ASCII."""
    return json.dumps(members, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(members: dict[str, Any], content: bytes | memoryview) -> str:
    """SHA-256 of a batch, of its header without its hash and its tags."""
    found = hashlib.sha256(canonical(members) + b"\n")
    found.update(content)
    return found.hexdigest()


def rising(time: npt.NDArray[np.int64]) -> bool:
    """Whether no tag is earlier than the one before it."""
    return bool((time[1:] >= time[:-1]).all())


def as_batches(tags: Tags, missed: int, records: int = RECORDS_A_BATCH) -> Iterator[TagBatch]:
    """Columns of tags of dtype TAG; those with unknown flags must have been refused."""
    for start in range(0, max(tags.size, 1), records):
        part = tags[start : start + records]
        yield TagBatch(
            time=np.ascontiguousarray(part["t"], np.int64),
            channel=np.ascontiguousarray(part["det"]),
            flags=np.ascontiguousarray(part["flags"]),
            aux=np.ascontiguousarray(part["aux"], np.uint16),
            n_records=part.size,
            missed=missed if start == 0 else 0,
        )


def unknown_flags(tags: Tags) -> bool:
    return bool((tags["flags"] & ~np.uint8(FLAGS)).any())
