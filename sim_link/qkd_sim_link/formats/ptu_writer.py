"""Write PTU files, as the devices do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError
from qkd_sim_link.formats import ptu_kernels as kernels
from qkd_sim_link.formats.ptu import (
    BITS_A_RECORD,
    GLOBAL_RESOLUTION,
    RECORD_BITS,
    RECORD_COUNT,
    RECORD_TYPE,
    RESOLUTION,
)
from qkd_sim_link.formats.ptu_header import Kind, PtuTag, write_header
from qkd_sim_link.formats.ptu_types import RecordType
from qkd_sim_link.formats.recording import MARKER

OVERFLOW = 0xFE000000
PICO_OVERFLOW = 0xF0000000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PtuEvents:
    """Events as a device counts them, rising in time from one overflow to the next.

    coarse   int64[n]: ticks in T2, numbers of sync events in T3
    channel  uint8[n]: 0 for the sync input (T2), k for input k; of a marker the bits of its lines
    flags    uint8[n], MARKER or 0
    fine     uint16[n], ticks since the sync event, 0 in T2
    """

    coarse: npt.NDArray[np.int64] = field(repr=False)
    channel: npt.NDArray[np.uint8] = field(repr=False)
    flags: npt.NDArray[np.uint8] = field(repr=False)
    fine: npt.NDArray[np.uint16] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PtuSettings:
    """What the header says: ticks and sync period in ps, and any further tags."""

    tick: Fraction = Fraction(1)
    sync_period: Fraction | None = None
    further: Sequence[PtuTag] = ()


def write_ptu(
    path: Path, kind: RecordType, batches: Iterable[PtuEvents], settings: PtuSettings
) -> int:
    """Write a file; returns its number of records. Raises ConfigError for what has no record."""
    coarse = settings.tick if settings.sync_period is None else settings.sync_period
    n = base = 0
    with path.open("wb") as file:
        write_header(file, _header(kind, settings, float(coarse / 10**12), 0))
        for events in batches:
            records, base = encoded(kind, events, base)
            records.tofile(file)
            n += records.size
        file.seek(0)
        write_header(file, _header(kind, settings, float(coarse / 10**12), n))
    return n


def encoded(kind: RecordType, events: PtuEvents, base: int) -> tuple[npt.NDArray[np.uint32], int]:
    """The records of ``events``, and where the counter then last began anew.

    Raises ConfigError for a channel, a fine time or an order of events that has no record.
    """
    coarse, words = events.coarse, _words(kind, events)
    if kind.pico and kind.mode == "T2":  # the bits of a marker stand where its time ends
        coarse = np.where(events.flags & MARKER, coarse & ~0xF, coarse)
    most = kind.most_told
    latest = int(coarse.max(initial=base))
    room = coarse.size * (2 if most else 1) + (latest - base) // (kind.period * max(most, 1))
    records = np.empty(room, np.uint32)
    n = kernels.encode(np.ascontiguousarray(coarse), base, kind.period, most, words, records)
    if n < 0:
        raise ConfigError("an event lies before the last overflow: sort the events by time")
    return records[:n], base + (latest - base) // kind.period * kind.period


def _words(kind: RecordType, events: PtuEvents) -> npt.NDArray[np.int64]:
    """int64[n + 1]: each event's record without its coarse time, and that of an overflow."""
    marker = events.flags & MARKER != 0
    channel, fine = events.channel.astype(np.int64), events.fine.astype(np.int64)
    t3 = kind.mode == "T3"
    lowest, highest, fine_max = (1 if t3 else 0), 64, 0x7FFF if t3 else 0
    if kind.pico:
        highest, fine_max = 4, 0xFFF if t3 else 0
    _require("channel", channel[~marker], lowest, highest)
    _require("bits of a marker", channel[marker], 1, 15)
    _require("fine time", fine, 0, fine_max)
    if kind.pico:
        plain = channel << 28 | fine << 16
        marked = PICO_OVERFLOW | (channel << 16 if t3 else channel)
    else:
        sync = (channel == 0).astype(np.int64) << 31
        plain = np.where(channel == 0, sync, (channel - 1) << 25) | fine << 10
        marked = 1 << 31 | channel << 25
    overflow = PICO_OVERFLOW if kind.pico else OVERFLOW
    return np.append(np.where(marker, marked, plain), overflow)


def _require(what: str, values: npt.NDArray[np.int64], low: int, high: int) -> None:
    if values.size and not low <= int(values.min()) <= int(values.max()) <= high:
        told = f"{values.min()} to {values.max()}"
        raise ConfigError(f"{what} {told}, the record allows {low} to {high}")


def _header(
    kind: RecordType, settings: PtuSettings, coarse_s: float, n_records: int
) -> list[PtuTag]:
    return [
        PtuTag("File_Comment", Kind.TEXT, f"{kind.mode} Mode"),
        PtuTag("Measurement_Mode", Kind.INT, int(kind.mode[1])),
        PtuTag(RECORD_TYPE, Kind.INT, kind.code),
        PtuTag(BITS_A_RECORD, Kind.INT, RECORD_BITS),
        PtuTag("HW_Type", Kind.TEXT, kind.device),
        PtuTag(RESOLUTION, Kind.FLOAT, float(settings.tick / 10**12)),
        PtuTag(GLOBAL_RESOLUTION, Kind.FLOAT, coarse_s),
        *settings.further,
        PtuTag(RECORD_COUNT, Kind.INT, n_records),
    ]
