"""Lines of JSON between the content of a recorded file: read one, and end with nothing after it."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from qkd_sim_link.formats.native import LINE_BYTES_MAX
from qkd_sim_link.formats.recording import TagsUnreadable


def line_of(file: BinaryIO, path: Path) -> bytes:
    """The next line, without its end. Raises TagsUnreadable when there is none, or a longer one."""
    at = file.tell()
    line = file.readline(LINE_BYTES_MAX + 1)
    if line.endswith(b"\n"):
        return line[:-1]
    longest = f"no line of at most {LINE_BYTES_MAX:,} bytes"
    what = longest if len(line) > LINE_BYTES_MAX else "the file ends before its last line"
    raise TagsUnreadable(path, f"byte {at:,}", what)


def object_of(line: bytes, path: Path, place: str) -> dict[str, Any]:
    """The JSON object that a line is. Raises TagsUnreadable."""
    try:
        members = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TagsUnreadable(path, place, "no JSON") from error
    if not isinstance(members, dict):
        raise TagsUnreadable(path, place, "no JSON object")
    return members


def bytes_left(file: BinaryIO) -> int:
    """How many bytes follow in the file."""
    return os.fstat(file.fileno()).st_size - file.tell()


def short(value: object) -> str:
    """A value of a damaged line, as an error has room for it."""
    return repr(value)[:40]
