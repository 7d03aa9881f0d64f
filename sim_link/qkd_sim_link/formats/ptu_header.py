"""The header of PicoQuant's unified files: tags of a name, an index, a type and a value.

Source: PicoQuant, "PicoQuant Unified File Format", tag types and tag dictionary
(github.com/PicoQuant/PicoQuant-Time-Tagged-File-Format-Demos).
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

from qkd_sim_link.formats.recording import TagsUnreadable

MAGIC, VERSION = b"PQTTTR\0\0", b"1.0.00\0\0"
PREAMBLE_BYTES = 16
HEADER_END = "Header_End"
TAG_LAYOUT = struct.Struct("<32siI8s")
TAGS_MAX = 1 << 16
HEADER_BYTES_MAX = 1 << 24

PtuValue = int | float | bool | str | bytes | tuple[float, ...] | None


class Kind(IntEnum):
    """The type code of a tag; those that end in FFFF carry a value after the tag."""

    EMPTY = 0xFFFF0008
    BOOL = 0x00000008
    INT = 0x10000008
    BITS = 0x11000008
    COLOUR = 0x12000008
    FLOAT = 0x20000008
    DATE = 0x21000008  # days since 30 December 1899
    FLOATS = 0x2001FFFF
    TEXT = 0x4001FFFF
    WIDE_TEXT = 0x4002FFFF
    BLOB = 0xFFFFFFFF


LONG = (Kind.FLOATS, Kind.TEXT, Kind.WIDE_TEXT, Kind.BLOB)
WHOLE = (Kind.INT, Kind.BITS, Kind.COLOUR)


@dataclass(frozen=True, slots=True)
class PtuTag:
    """One entry; ``index`` counts from 0 in lists and is -1 elsewhere."""

    name: str
    kind: Kind
    value: PtuValue
    index: int = -1

    @property
    def key(self) -> str:
        return self.name if self.index < 0 else f"{self.name}({self.index})"


def read_header(file: BinaryIO, path: Path) -> list[PtuTag]:
    """All tags up to the end of the header, where ``file`` is left. Raises TagsUnreadable."""
    if file.read(PREAMBLE_BYTES)[: len(MAGIC)] != MAGIC:
        raise TagsUnreadable(path, "byte 0", "no PicoQuant PTU file, its magic is missing")
    n_bytes = os.fstat(file.fileno()).st_size
    tags: list[PtuTag] = []
    while len(tags) < TAGS_MAX:
        place = f"header tag {len(tags)} at byte {file.tell():,}"
        found = file.read(TAG_LAYOUT.size)
        if len(found) < TAG_LAYOUT.size:
            raise TagsUnreadable(path, place, f"the file ends before {HEADER_END}")
        name, index, code, plain = TAG_LAYOUT.unpack(found)
        try:
            tag_name, kind = name.rstrip(b"\0").decode("ascii"), Kind(code)
        except UnicodeDecodeError as error:
            raise TagsUnreadable(path, place, "its name is not ASCII") from error
        except ValueError as error:
            raise TagsUnreadable(path, place, f"unknown tag type {code:#010x}") from error
        if tag_name == HEADER_END:
            return tags
        if kind not in LONG:
            tags.append(PtuTag(tag_name, kind, _plain(kind, plain), index))
            continue
        length = int.from_bytes(plain, "little", signed=True)
        allowed = max(min(n_bytes, HEADER_BYTES_MAX) - file.tell(), 0)
        if not 0 <= length <= allowed:
            told = f"{tag_name} is {length:,} bytes long, at most {allowed:,} are possible"
            raise TagsUnreadable(path, place, told)
        tags.append(PtuTag(tag_name, kind, _long(kind, file.read(length)), index))
    raise TagsUnreadable(path, "header", f"more than {TAGS_MAX:,} tags")


def write_header(file: BinaryIO, tags: Sequence[PtuTag]) -> None:
    """Preamble, tags and the end of the header; values of strings and lists in steps of 8 bytes."""
    file.write(MAGIC + VERSION)
    for tag in (*tags, PtuTag(HEADER_END, Kind.EMPTY, None)):
        content = _content(tag)
        plain = len(content).to_bytes(8, "little") if tag.kind in LONG else content
        file.write(TAG_LAYOUT.pack(tag.name.encode("ascii"), tag.index, tag.kind, plain))
        if tag.kind in LONG:
            file.write(content)


def _plain(kind: Kind, value: bytes) -> PtuValue:
    if kind is Kind.EMPTY:
        return None
    if kind in (Kind.FLOAT, Kind.DATE):
        number: float = struct.unpack("<d", value)[0]
        return number
    whole = int.from_bytes(value, "little", signed=True)
    return whole != 0 if kind is Kind.BOOL else whole


def _long(kind: Kind, value: bytes) -> PtuValue:
    if kind is Kind.FLOATS:
        return struct.unpack(f"<{len(value) // 8}d", value[: len(value) // 8 * 8])
    if kind is Kind.WIDE_TEXT:
        return value.decode("utf-16-le", errors="replace").rstrip("\0")
    if kind is Kind.TEXT:
        text = value.split(b"\0", 1)[0]
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            return text.decode("latin-1")  # what older programs wrote
    return value


def _content(tag: PtuTag) -> bytes:
    """The value as the file holds it: 8 bytes, or any number of those."""
    kind, value = tag.kind, tag.value
    if value is None:
        return bytes(8)
    if isinstance(value, tuple):
        return struct.pack(f"<{len(value)}d", *value)
    if isinstance(value, bytes):
        return _filled(value)
    if isinstance(value, str):
        wide = kind is Kind.WIDE_TEXT
        return _filled(value.encode("utf-16-le") + b"\0\0" if wide else value.encode() + b"\0")
    if kind in (Kind.FLOAT, Kind.DATE):
        return struct.pack("<d", value)
    whole = -int(value) if kind is Kind.BOOL else int(value)
    return whole.to_bytes(8, "little", signed=True)


def _filled(content: bytes) -> bytes:
    return content + bytes(-len(content) % 8)
