"""Write the tags of any file in our own format, as text, or as a NumPy array."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qkd_core.errors import ConfigError
from qkd_sim_link.formats.native import NativeWriter, Stream, canonical
from qkd_sim_link.formats.recording import TAG, TIME_MAX, TagBatch, TagFile, TagInfo
from qkd_sim_link.formats.survey import Survey

COLUMNS = "time_ticks,channel,flags,aux"

Progress = Callable[[int], None]


def convert(file: TagFile, found: Survey, out: Path, to: str, progress: Progress) -> int:
    """Write all tags to ``out`` in the form ``to`` of `WRITERS`; returns how many.

    found  the survey of the same file, for how far it is out of order
    Raises ConfigError when ``out`` exists or cannot be written, TagsUnreadable for damage; then
    nothing is left at ``out``.
    """
    if out.exists():
        raise ConfigError(f"{out} exists: it is not overwritten")
    with _whole(out) as part:
        return WRITERS[to](file, found, part, progress)


def stream_of(info: TagInfo) -> Stream:
    """The stream that a recorded file becomes; other settings of the device are another one."""
    settings = {key: repr(value) for key, value in info.header.items()}
    told = {"device": info.device, "mode": info.mode, "tick": str(info.tick), "header": settings}
    return Stream(
        link="",
        side="",
        driver=f"recorded {info.format}",
        tick=info.tick,
        cfg_digest=hashlib.sha256(canonical(told)).hexdigest(),
    )


def _native(file: TagFile, found: Survey, out: Path, progress: Progress) -> int:
    top = n = 0
    begun = False
    with NativeWriter(out, stream_of(file.info)) as writer:
        for batch in _told(file, progress):
            if batch.time.size:
                highest = int(batch.time.max())
                top, begun = (max(top, highest) if begun else highest), True
            # nothing that comes later lies further back than anything in the file does
            watermark = top - found.latest if begun else -TIME_MAX
            writer.write(batch.tags(), watermark=max(watermark, -TIME_MAX), missed=batch.missed)
            n += batch.time.size
    return n


def _csv(file: TagFile, _found: Survey, out: Path, progress: Progress) -> int:
    n = 0
    with out.open("w", encoding="ascii", newline="\n") as text:
        text.write(f"{COLUMNS}\n")
        for batch in _told(file, progress):
            columns = (batch.time, batch.channel, batch.flags, batch.aux)
            rows = zip(*(column.tolist() for column in columns), strict=True)
            text.writelines(f"{t},{channel},{flags},{aux}\n" for t, channel, flags, aux in rows)
            n += batch.time.size
    return n


def _npy(file: TagFile, _found: Survey, out: Path, progress: Progress) -> int:
    """One array of dtype TAG. NumPy leaves room in the header for the length to grow."""
    n = 0
    with out.open("wb") as array:
        _array_header(array, 0)
        for batch in _told(file, progress):
            batch.tags().tofile(array)
            n += batch.time.size
        array.seek(0)
        _array_header(array, n)
    return n


def _array_header(file: BinaryIO, n: int) -> None:
    told = {"descr": np.lib.format.dtype_to_descr(TAG), "fortran_order": False, "shape": (n,)}
    np.lib.format.write_array_header_1_0(file, told)


def _told(file: TagFile, progress: Progress) -> Iterator[TagBatch]:
    n = 0
    for batch in file.batches():
        yield batch
        n += batch.n_records
        progress(n)


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A file beside ``out`` that takes its name when all is written, and else is removed."""
    part = out.with_name(f"{out.name}.part")
    try:
        part.touch(mode=0o600)  # tags tell bits, and the recording may be the owner's alone
        yield part
        os.replace(part, out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(f"{out}: cannot be written ({error.strerror})") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


WRITERS = {"native": _native, "csv": _csv, "npy": _npy}
