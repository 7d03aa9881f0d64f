"""qutools quTAG: a header of 40 bytes that says nothing we need, then ten bytes a tag.

A tag is its time in ps (int64) and its channel (int16), little endian. The device writes what it
reads out, so tags of one readout need not be in the order of time. Source: recorded files, and
the reader of ETA (github.com/timetag/ETA).
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

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

HEADER_BYTES = 40
RECORD = np.dtype([("t", "<i8"), ("channel", "<i2")])
CHANNEL_MAX = 255


class QutagFile:
    """One file. Raises TagsUnreadable when it is shorter than its header."""

    def __init__(self, path: Path) -> None:
        n_bytes = bytes_in(path)
        if n_bytes < HEADER_BYTES:
            raise TagsUnreadable(
                path, f"byte {n_bytes}", f"the file ends within its header of {HEADER_BYTES} bytes"
            )
        self._path = path
        self._n, self._tail = divmod(n_bytes - HEADER_BYTES, RECORD.itemsize)
        self.info = TagInfo(format="qutag", device="quTAG", tick=Fraction(1), n_records=self._n)

    def batches(self, records: int = RECORDS_A_BATCH) -> Iterator[TagBatch]:
        """All records as `TagFile.batches` says."""
        done = 0
        no_aux = frozen_zeros(min(records, self._n))
        with opened(self._path) as file:
            file.seek(HEADER_BYTES)
            while done < self._n:
                found = np.fromfile(file, RECORD, min(records, self._n - done))
                if found.size == 0:
                    break
                n = n_well(found)
                yield TagBatch(
                    time=np.ascontiguousarray(found["t"][:n]),
                    channel=found["channel"][:n].astype(np.uint8),
                    flags=np.zeros(n, np.uint8),
                    aux=no_aux[:n],
                    n_records=n,
                )
                if n < found.size:
                    t, channel = (int(value) for value in found[n])
                    told = f"time {t} ps in channel {channel}"
                    raise self._at(
                        done + n, f"{told}, allowed are 0 to 2^62 ps and 0 to {CHANNEL_MAX}"
                    )
                done += n
        if done < self._n or self._tail:
            raise self._at(done, f"the file ends within a record of {RECORD.itemsize} bytes")

    def _at(self, record: int, what: str) -> TagsUnreadable:
        at = HEADER_BYTES + record * RECORD.itemsize
        return TagsUnreadable(self._path, f"record {record:,} at byte {at:,}", what)


def n_well(found: npt.NDArray[np.void]) -> int:
    """How many records stand before the first one with a time or channel that cannot be."""
    time, channel = found["t"], found["channel"]
    well = (time >= 0) & (time <= TIME_MAX) & (channel >= 0) & (channel <= CHANNEL_MAX)
    return found.size if well.all() else int(np.argmin(well))


def write_qutag(path: Path, batches: Iterable[TagBatch]) -> None:
    """Write tags in ps, with zeros for the header, whose meaning is not published."""
    with path.open("wb") as file:
        file.write(bytes(HEADER_BYTES))
        for batch in batches:
            records = np.empty(batch.time.size, RECORD)
            records["t"], records["channel"] = batch.time, batch.channel
            records.tofile(file)
