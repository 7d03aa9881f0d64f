"""Open a file of time tags in whatever format it has: known by its content, else by its name."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError
from qkd_sim_link.formats import native, ptu_header, qutag, s15
from qkd_sim_link.formats.native_reader import NativeFile
from qkd_sim_link.formats.ptu import PtuFile
from qkd_sim_link.formats.qutag import QutagFile
from qkd_sim_link.formats.recording import TagFile, TagsUnreadable, bytes_in, opened
from qkd_sim_link.formats.s15 import LAYOUTS, Layout, S15File

LOOK_BYTES = 1 << 15
FEWEST = 8  # records by which a format without a magic is known
# Between two events in turn, at most, for half of them: 2^46 ticks of 1/256 ns are 275 s. In
# the other order of the halves, or of other bytes, they are 2^52 ticks apart and more.
S15_STEP_MAX = 1 << 46
DISORDER_MAX = 0.1  # of the steps, that may go back in time; of other bytes half do
QUTAG_STEP_MAX = 10**15  # ps
QUTAG_CHANNEL_MAX = 127
NO_RECORD = np.zeros(0, qutag.RECORD)


def _s15(layout: Layout) -> Callable[[Path], TagFile]:
    return lambda path: S15File(path, layout)


FORMATS: dict[str, Callable[[Path], TagFile]] = {
    "ptu": PtuFile,
    "qutag": QutagFile,
    "native": NativeFile,
    **{name: _s15(layout) for name, layout in LAYOUTS.items()},
}
NAMES = {".ptu": "ptu", ".qutag": "qutag", ".tags": "native"}
S15_NAME = re.compile(r"[._]a?(a[012])f?(x?)(?=[._]|$)", re.IGNORECASE)


def open_tags(path: Path, form: str | None = None) -> TagFile:
    """The file at ``path``, in format ``form`` or the one that it shows.

    Raises ConfigError for an unknown ``form``, TagsUnreadable for a file that is of none, or
    damaged in its header.
    """
    if form is not None and form not in FORMATS:
        raise ConfigError(f"format {form!r}, known are {', '.join(FORMATS)}")
    n_bytes = bytes_in(path)
    return FORMATS[form or _detected(path, n_bytes)](path)


def _detected(path: Path, n_bytes: int) -> str:
    with opened(path) as file:
        begin = file.read(LOOK_BYTES)
    found = by_content(begin)
    if found is None and n_bytes == 0:
        raise TagsUnreadable(path, "", "is empty")
    found = found or by_name(path)
    if found is None:
        known = ", ".join(FORMATS)
        raise TagsUnreadable(path, "", f"is in no format that is known ({known}); name one to try")
    return found


def by_name(path: Path) -> str | None:
    """The format that goes with such a name."""
    kind = S15_NAME.search(path.name)
    return f"s15-{kind[1]}{kind[2]}".lower() if kind else NAMES.get(path.suffix.lower())


def by_content(begin: bytes) -> str | None:
    """The format whose files may begin so; None when none fits, or more than one."""
    if begin.startswith(ptu_header.MAGIC):
        return "ptu"
    if begin.startswith(b"{") and native.FORMAT.encode() in begin:
        return "native"
    text = _hexadecimal(begin)
    if text is not None:
        return text
    words = np.frombuffer(begin[: len(begin) // s15.WORD_BYTES * s15.WORD_BYTES], "<u8")
    likely = [_ordered(words, "s15-a1"), "qutag" if _like_qutag(begin) else None]
    found = [form for form in likely if form]
    return found[0] if len(found) == 1 else None


def _hexadecimal(begin: bytes) -> str | None:
    """a0 or a2 in one of their orders, when all lines have 8 or 16 hexadecimal digits."""
    lines = [line.rstrip(b"\r") for line in begin.split(b"\n")[:-1] or [begin]]
    length = len(lines[0])
    form = {8: "s15-a0", 16: "s15-a2"}.get(length)
    if form is None or any(len(line) != length for line in lines):
        return None
    try:
        found = np.array([int(line, 16) for line in lines], np.uint64)
    except (ValueError, OverflowError):
        return None
    if form == "s15-a0":
        pairs = found[: found.size // 2 * 2].reshape(-1, 2)
        found = pairs[:, 0] | pairs[:, 1] << np.uint64(32)
    return _ordered(found, form)


def _ordered(words: npt.NDArray[np.uint64], form: str) -> str | None:
    """``form``, or that with the halves of a word exchanged: where the times follow each other."""
    plain = _usual_step(words)
    exchanged = _usual_step(s15.in_order(words, Layout(name="", exchanged=True)))
    if min(plain, exchanged) > S15_STEP_MAX or plain == exchanged:
        return None
    return form if plain < exchanged else f"{form}x"


def _usual_step(words: npt.NDArray[np.uint64]) -> float:
    """As `_step_of`, of the events among these words."""
    events = words[(words & np.uint64(0xF) != 0) & (words & np.uint64(0x10) == 0)]
    return _step_of((events >> np.uint64(10)).astype(np.int64))


def _step_of(time: npt.NDArray[np.int64]) -> float:
    """The median from one time to the next; infinite for too few, or for none in order."""
    steps = np.diff(time)
    if time.size < FEWEST or np.mean(steps < 0) > DISORDER_MAX:
        return math.inf
    return float(np.median(steps))


def _like_qutag(begin: bytes) -> bool:
    whole = max(len(begin) - qutag.HEADER_BYTES, 0) // qutag.RECORD.itemsize
    records = np.frombuffer(begin, qutag.RECORD, whole, qutag.HEADER_BYTES) if whole else NO_RECORD
    time, channel = records["t"], records["channel"]
    step = _step_of(time)
    well = qutag.n_well(records) == records.size and channel.max(initial=0) <= QUTAG_CHANNEL_MAX
    return well and 0 < step < QUTAG_STEP_MAX
