"""PicoQuant PTU: HydraHarp, MultiHarp, PicoHarp 300 and 330, TimeHarp 260, in T2 and T3.

In T2 a tick is the device's, most often 1 ps. In T3 it is that of the time since the last sync
event, and the time of an event is the number of its sync event times the sync period of the
header, rounded to a tick, plus that time.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qkd_sim_link.formats import ptu_kernels as kernels
from qkd_sim_link.formats.ptu_header import read_header
from qkd_sim_link.formats.ptu_types import RECORD_TYPES, RecordType
from qkd_sim_link.formats.recording import (
    RECORDS_A_BATCH,
    TIME_MAX,
    TagBatch,
    TagInfo,
    TagsUnreadable,
    bytes_in,
    exact,
    frozen_zeros,
    opened,
)

RECORD_BYTES = 4
RECORD_TYPE, RECORD_COUNT = "TTResultFormat_TTTRRecType", "TTResult_NumberOfRecords"
GLOBAL_RESOLUTION, RESOLUTION = "MeasDesc_GlobalResolution", "MeasDesc_Resolution"
BITS_A_RECORD = "TTResultFormat_BitsPerRecord"
RECORD_BITS = 8 * RECORD_BYTES
TICK_MIN_S, TICK_MAX_S = 1e-15, 1.0


class PtuFile:
    """One PTU file. Raises TagsUnreadable for what its header does not say, or says wrongly."""

    def __init__(self, path: Path) -> None:
        n_bytes = bytes_in(path)
        with opened(path) as file:
            self.tags = read_header(file, path)
            self._start = file.tell()
        self._path = path
        self._header = {tag.key: tag.value for tag in self.tags}
        self._type = self._record_type()
        self._n_left, self._tail = divmod(n_bytes - self._start, RECORD_BYTES)
        self.info = self._info()

    def batches(self, records: int = RECORDS_A_BATCH) -> Iterator[TagBatch]:
        """All records as `TagFile.batches` says."""
        told = self.info.n_records
        n = self._n_left if told is None else min(self._n_left, told)
        base = done = 0
        read = np.empty(min(records, n), "<u4")
        no_aux = frozen_zeros(read.size)
        with opened(self._path) as file:
            file.seek(self._start)
            while done < n:
                words = read[: n - done]
                words = words[: file.readinto(words.view(np.uint8).data) // RECORD_BYTES]
                if words.size == 0:
                    break
                batch, base, bad = self._decoded(words, base, no_aux)
                yield batch
                if bad >= 0:
                    record = f"{words[bad]:#010x} is no record of a {self._type.name}"
                    raise self._at(done + bad, f"{record}, or its time is past 2^62")
                done += words.size
        if told is not None and done < told:
            raise self._at(done, f"the file ends; its header counts {told:,} records")
        if self._n_left > done or self._tail:
            extra = (self._n_left - done) * RECORD_BYTES + self._tail
            raise self._at(done, f"{extra:,} more bytes, where the last record should end")

    def _decoded(
        self, words: npt.NDArray[np.uint32], base: int, no_aux: npt.NDArray[np.uint16]
    ) -> tuple[TagBatch, int, int]:
        """The batch, where the counter last began anew, and the first bad record or -1."""
        kind, n = self._type, words.size
        time, channel = np.empty(n, np.int64), np.empty(n, np.uint8)
        flags = np.zeros(n, np.uint8)
        aux = no_aux[:n] if kind.mode == "T2" else np.empty(n, np.uint16)
        counted = np.uint64(kind.most_told)
        if kind.mode == "T2":
            found = (
                kernels.decode_pico_t2(words, base, kind.period, time, channel, flags)
                if kind.pico
                else kernels.decode_t2(words, base, kind.period, counted, time, channel, flags)
            )
        else:
            found = (
                kernels.decode_pico_t3(words, base, time, channel, flags, aux)
                if kind.pico
                else kernels.decode_t3(words, base, counted, time, channel, flags, aux)
            )
        n_tags, after, bad = found
        if self.info.sync_period is not None:
            whole, part = self._sync_ticks()
            if bad < 0 and after > TIME_MAX // (whole + 1):
                n_tags, bad = 0, 0
            kernels.to_fine_ticks(time[:n_tags], aux[:n_tags], whole, part)
        batch = TagBatch(
            time=time[:n_tags],
            channel=channel[:n_tags],
            flags=flags[:n_tags],
            aux=aux[:n_tags],
            n_records=n if bad < 0 else bad,
            overflows=(after - base) // kind.period,
        )
        return batch, after, bad

    def _sync_ticks(self) -> tuple[int, float]:
        """The sync period in ticks: whole ones, and the part of one that is left."""
        period = (self.info.sync_period or Fraction(0)) / self.info.tick
        return int(period), float(period - int(period))

    def _record_type(self) -> RecordType:
        code = self._header.get(RECORD_TYPE)
        if not isinstance(code, int) or code not in RECORD_TYPES:
            told = f"{code:#010x}" if isinstance(code, int) else "missing"
            known = ", ".join(f"{each:#010x}" for each in RECORD_TYPES)
            raise self._wrong(f"{RECORD_TYPE} is {told}, known are {known}")
        bits = self._header.get(BITS_A_RECORD, RECORD_BITS)
        if bits != RECORD_BITS:
            raise self._wrong(f"{BITS_A_RECORD} is {bits!r}, allowed is {RECORD_BITS}")
        return RECORD_TYPES[code]

    def _info(self) -> TagInfo:
        t3 = self._type.mode == "T3"
        coarse = self._seconds(GLOBAL_RESOLUTION)
        # A recording that was broken off never learnt its number of records.
        told = self._header.get(RECORD_COUNT, 0)
        if type(told) is not int or told < 0:
            raise self._wrong(f"{RECORD_COUNT} is {told!r}, allowed is a number from 0")
        return TagInfo(
            format="ptu",
            device=self._device(),
            mode=self._type.mode,
            tick=self._seconds(RESOLUTION) if t3 else coarse,
            sync_period=coarse if t3 else None,
            n_records=told or None,
            header=self._header,
        )

    def _device(self) -> str:
        told = [self._header.get(key) for key in ("HW_Type", "HW_SerialNo")]
        name, number = (each if isinstance(each, str) else "" for each in told)
        return f"{name or self._type.device}{f', number {number}' if number else ''}"

    def _seconds(self, key: str) -> Fraction:
        """A time of the header, in ps."""
        value = self._header.get(key)
        if not isinstance(value, float) or not TICK_MIN_S <= value <= TICK_MAX_S:
            raise self._wrong(f"{key} is {value!r}, allowed are {TICK_MIN_S:g} to {TICK_MAX_S:g} s")
        return exact(value)

    def _wrong(self, what: str) -> TagsUnreadable:
        return TagsUnreadable(self._path, "header", what)

    def _at(self, record: int, what: str) -> TagsUnreadable:
        place = f"record {record:,} at byte {self._start + record * RECORD_BYTES:,}"
        return TagsUnreadable(self._path, place, what)
