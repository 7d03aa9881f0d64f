"""What every file of time tags is read as: a description, and batches of columns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qkd_core.errors import QkdError

RECORDS_A_BATCH = 1 << 16  # about what fits a core's own cache
TIME_MAX = 1 << 62  # ticks; what passes it is damage, and sums of two times still fit

OVERFLOW_BEGIN, OVERFLOW_END, MISSED, MARKER = 1, 2, 4, 8
GATE, SELF_TEST, CLOCK_UNLOCKED = 16, 32, 64
FLAGS = OVERFLOW_BEGIN | OVERFLOW_END | MISSED | MARKER | GATE | SELF_TEST | CLOCK_UNLOCKED

TAG = np.dtype([("t", "<i8"), ("det", "u1"), ("flags", "u1"), ("aux", "<u2")])


class TagsUnreadable(QkdError):
    """A file of time tags is damaged, cut short, or not what it is taken for: where, and what."""

    def __init__(self, path: Path, where: str, what: str) -> None:
        super().__init__(f"{path}: {where}: {what}" if where else f"{path}: {what}")
        self.path, self.where, self.what = path, where, what


@dataclass(frozen=True, slots=True, kw_only=True)
class TagInfo:
    """What a file says of itself before its first record."""

    format: str
    device: str
    mode: str = ""  # T2 or T3 of PicoQuant's devices
    tick: Fraction  # ps
    sync_period: Fraction | None = None  # ps, in T3
    n_records: int | None = None  # as the header counts them; None where none does
    header: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TagBatch:
    """Some records of a file, in their order there, which need not be the order of time.

    time     int64[n], ticks
    channel  uint8[n]; of a marker the bits of its lines
    flags    uint8[n]; MARKER for what is no detection
    aux      uint16[n]; in T3 the time since the last sync, in ticks
    """

    time: npt.NDArray[np.int64] = field(repr=False)
    channel: npt.NDArray[np.uint8] = field(repr=False)
    flags: npt.NDArray[np.uint8] = field(repr=False)
    aux: npt.NDArray[np.uint16] = field(repr=False)
    n_records: int
    overflows: int = 0  # times that the device's counter began anew
    left_out: int = 0  # records that are no event, such as dummies
    patterns: int = 0  # records of more than one detector, each expanded to one tag a detector
    missed: int = 0  # events that the device says it lost

    def tags(self) -> npt.NDArray[np.void]:
        """The columns as one array of dtype TAG."""
        tags = np.empty(self.time.size, TAG)
        tags["t"], tags["det"], tags["flags"], tags["aux"] = (
            self.time,
            self.channel,
            self.flags,
            self.aux,
        )
        return tags


class TagFile(Protocol):
    """A file of time tags; each call of ``batches`` reads all of it, with bounded memory."""

    @property
    def info(self) -> TagInfo: ...

    def batches(self, records: int = RECORDS_A_BATCH) -> Iterator[TagBatch]:
        """All records, at most ``records`` at a time.

        Raises TagsUnreadable where the file is damaged, after the batches before that place.
        """
        ...


def opened(path: Path) -> BufferedReader:
    """Open for reading. Raises TagsUnreadable."""
    try:
        return path.open("rb")
    except OSError as error:
        raise TagsUnreadable(path, "", f"cannot be read ({error.strerror})") from error


def bytes_in(path: Path) -> int:
    """How long the file is. Raises TagsUnreadable when it is none."""
    try:
        if not path.is_file():
            raise TagsUnreadable(path, "", "is no file" if path.exists() else "does not exist")
        return path.stat().st_size
    except OSError as error:
        raise TagsUnreadable(path, "", f"cannot be read ({error.strerror})") from error


def exact(value: float) -> Fraction:
    """Seconds as picoseconds: the decimal number that was meant, without the last bits' noise."""
    return Fraction(f"{value:.15g}") * 10**12


def frozen_zeros(n: int) -> npt.NDArray[np.uint16]:
    """The column ``aux`` of files that have none: read-only, for any number of batches."""
    zeros = np.zeros(n, np.uint16)
    zeros.setflags(write=False)
    return zeros
