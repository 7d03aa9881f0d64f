"""PTU files: every type of record, as PicoQuant describes it, and files that are not as it says."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.errors import ConfigError
from qkd_sim_link.formats.ptu import PtuFile
from qkd_sim_link.formats.ptu_header import Kind, PtuTag, read_header, write_header
from qkd_sim_link.formats.ptu_types import BY_NAME, RECORD_TYPES
from qkd_sim_link.formats.ptu_writer import PtuEvents, PtuSettings, write_ptu
from qkd_sim_link.formats.recording import MARKER, TagsUnreadable

EVERY_TYPE = pytest.mark.parametrize("kind", RECORD_TYPES.values(), ids=lambda kind: kind.name)
T2, T3 = BY_NAME["HydraHarp v2 T2"], BY_NAME["HydraHarp v2 T3"]
OLD_T2, OLD_T3 = BY_NAME["HydraHarp v1 T2"], BY_NAME["HydraHarp v1 T3"]
PICO_T2, PICO_T3 = BY_NAME["PicoHarp 300 T2"], BY_NAME["PicoHarp 300 T3"]
SYNC = Fraction(12_500_001, 1000)  # ps; no whole number of ticks


def settings_of(kind):
    period = SYNC if kind.mode == "T3" else None
    return PtuSettings(tick=Fraction(25 if period else 1), sync_period=period)


def file_of(path, kind, words, count=None):
    """A file with these records, whatever they are."""
    nothing = np.zeros(0, np.int64)
    few = [PtuEvents(coarse=nothing, channel=nothing, flags=nothing, fine=nothing)]
    write_ptu(path, kind, few, settings_of(kind))
    content = path.read_bytes()
    name = b"TTResult_NumberOfRecords"
    at = content.index(name) + 40
    told = struct.pack("<q", len(words) if count is None else count)
    path.write_bytes(content[:at] + told + content[at + 8 :] + np.array(words, "<u4").tobytes())
    return path


@st.composite
def some_events(draw, kind):
    n = draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    longest = draw(st.sampled_from([10, kind.period // 2, 3 * kind.period]))
    marker = rng.random(n) < draw(st.sampled_from([0.0, 0.3]))
    t3 = kind.mode == "T3"
    inputs = rng.integers(1 if t3 else 0, 5 if kind.pico else 65, n)
    fine_max = (0xFFF if kind.pico else 0x7FFF) if t3 else 0
    return PtuEvents(
        coarse=np.cumsum(rng.integers(0, longest, n)),
        channel=np.where(marker, rng.integers(1, 16, n), inputs).astype(np.uint8),
        flags=np.where(marker, MARKER, 0).astype(np.uint8),
        fine=np.where(marker, 0, rng.integers(0, fine_max + 1, n)).astype(np.uint16),
    )


def expected_time(kind, events):
    if kind.mode == "T3":
        ratio = SYNC / 25
        pairs = zip(events.coarse.tolist(), events.fine.tolist(), strict=True)
        return [int(coarse * ratio) + fine for coarse, fine in pairs]
    marked = events.flags != 0
    cut = events.coarse & ~0xF if kind.pico else events.coarse
    return np.where(marked, cut, events.coarse).tolist()


@EVERY_TYPE
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_what_is_written_is_read(kind, data, tmp_path_factory, columns):
    events = data.draw(some_events(kind))
    cut = data.draw(st.integers(0, events.coarse.size))
    parts = [
        PtuEvents(
            coarse=events.coarse[part],
            channel=events.channel[part],
            flags=events.flags[part],
            fine=events.fine[part],
        )
        for part in (slice(0, cut), slice(cut, None))
    ]
    path = tmp_path_factory.mktemp("ptu") / "a.ptu"

    n = write_ptu(path, kind, parts, settings_of(kind))
    file = PtuFile(path)
    found = columns(file, data.draw(st.sampled_from([1, 7, 1000])))

    assert (file.info.n_records or 0) == found["n_records"] == n
    assert found["time"].tolist() == expected_time(kind, events)
    assert found["channel"].tolist() == events.channel.tolist()
    assert found["flags"].tolist() == events.flags.tolist()
    assert found["aux"].tolist() == events.fine.tolist()
    latest = int(events.coarse.max(initial=0))
    assert found["overflows"] == latest // kind.period


DESCRIBED = [
    # kind, records as the description lays out their bits, (time, channel, marker, fine)
    (T2, [2 << 25 | 5], [(5, 3, 0, 0)]),
    (T2, [1 << 31 | 7], [(7, 0, 0, 0)]),
    (T2, [1 << 31 | 9 << 25 | 8], [(8, 9, 1, 0)]),
    (T2, [0xFE000003, 0x00000001], [(3 * 33_554_432 + 1, 1, 0, 0)]),
    (T2, [0xFE000000, 0x00000001], [(33_554_432 + 1, 1, 0, 0)]),  # an old single overflow
    (OLD_T2, [0xFE000003, 0x00000001], [(33_552_000 + 1, 1, 0, 0)]),  # tells no number
    (T3, [3 << 25 | 100 << 10 | 2], [(int(2 * SYNC / 25) + 100, 4, 0, 100)]),
    (T3, [0xFE000002, 0], [(int(2048 * SYNC / 25), 1, 0, 0)]),
    (T3, [1 << 31 | 4 << 25 | 99 << 10 | 3], [(int(3 * SYNC / 25), 4, 1, 0)]),
    (OLD_T3, [0xFE000002, 0], [(int(1024 * SYNC / 25), 1, 0, 0)]),
    (PICO_T2, [1 << 28 | 77], [(77, 1, 0, 0)]),
    (PICO_T2, [0xF0000000, 0], [(210_698_240, 0, 0, 0)]),
    (PICO_T2, [0xF0000035], [(0x30, 5, 1, 0)]),
    (PICO_T3, [2 << 28 | 50 << 16 | 6], [(int(6 * SYNC / 25) + 50, 2, 0, 50)]),
    (PICO_T3, [0xF0000000, 1 << 28 | 4 << 16], [(int(65_536 * SYNC / 25) + 4, 1, 0, 4)]),
    (PICO_T3, [0xF0020009], [(int(9 * SYNC / 25), 2, 1, 0)]),
]


@pytest.mark.parametrize(("kind", "words", "expected"), DESCRIBED)
def test_records_mean_what_the_description_says(kind, words, expected, tmp_path, columns):
    found = columns(PtuFile(file_of(tmp_path / "a.ptu", kind, words)))

    names = ("time", "channel", "flags", "aux")
    rows = list(zip(*(found[name].tolist() for name in names), strict=True))
    assert rows == [(t, channel, MARKER * mark, fine) for t, channel, mark, fine in expected]


WRONG = [
    (T2, 0xA0000000),
    (T3, 0x80000000),  # a sync event, which T3 counts and does not record
    (T3, 0xA0000000),
    (PICO_T2, 0x50000000),
    (PICO_T3, 0x00000000),
    (PICO_T3, 0x50000000),
    (PICO_T3, 0xF0100000),
]


@pytest.mark.parametrize(("kind", "word"), WRONG)
def test_a_record_that_no_device_writes_ends_the_reading_there(kind, word, tmp_path):
    good = 1 << 28 if kind.pico else 0
    file = PtuFile(file_of(tmp_path / "a.ptu", kind, [good, good, good, word, good]))

    seen = []
    with pytest.raises(
        TagsUnreadable, match=rf"record 3 at byte [\d,]+: {word:#010x} is no record"
    ):
        seen.extend(file.batches(2))

    assert sum(batch.time.size for batch in seen) == 3
    assert sum(batch.n_records for batch in seen) == 3


def test_a_time_beyond_all_measure_ends_the_reading(tmp_path):
    words = [0xFFFFFFFF] * 20_000  # each tells 2^25 - 1 overflows
    with pytest.raises(TagsUnreadable, match="its time is past 2\\^62"):
        list(PtuFile(file_of(tmp_path / "a.ptu", T2, words)).batches())


def test_a_file_that_ends_early_gives_what_it_has_and_says_where(tmp_path, columns):
    path = file_of(tmp_path / "a.ptu", T2, range(100))
    start = path.stat().st_size - 400
    path.write_bytes(path.read_bytes()[: start + 250])

    seen = []
    with pytest.raises(TagsUnreadable) as caught:
        seen.extend(PtuFile(path).batches(10))

    place = f"record 62 at byte {start + 248:,}"
    assert str(caught.value) == f"{path}: {place}: the file ends; its header counts 100 records"
    assert sum(batch.time.size for batch in seen) == 62


def test_bytes_after_the_last_record_are_told(tmp_path):
    path = file_of(tmp_path / "a.ptu", T2, range(10), count=7)
    with pytest.raises(TagsUnreadable, match=r"record 7 .*: 12 more bytes"):
        list(PtuFile(path).batches())


def test_a_recording_that_was_broken_off_counts_no_records_and_is_read_to_its_end(
    tmp_path, columns
):
    file = PtuFile(file_of(tmp_path / "a.ptu", T2, range(10), count=0))
    assert file.info.n_records is None
    assert columns(file)["time"].tolist() == list(range(10))


def test_events_out_of_order_are_read_as_they_stand(tmp_path, columns):
    found = columns(PtuFile(file_of(tmp_path / "a.ptu", T2, [50, 20, 70])))
    assert found["time"].tolist() == [50, 20, 70]


HEADERS = [
    (PtuTag("TTResultFormat_TTTRRecType", Kind.INT, 0x00010209), "is 0x00010209, known are 0x"),
    (PtuTag("TTResultFormat_BitsPerRecord", Kind.INT, 64), "is 64, allowed is 32"),
    (PtuTag("MeasDesc_GlobalResolution", Kind.FLOAT, 0.0), "is 0.0, allowed are 1e-15 to 1 s"),
    (PtuTag("MeasDesc_GlobalResolution", Kind.FLOAT, float("nan")), "is nan, allowed are"),
    (PtuTag("MeasDesc_GlobalResolution", Kind.TEXT, "fast"), "is 'fast', allowed are"),
    (PtuTag("TTResult_NumberOfRecords", Kind.INT, -5), "is -5, allowed is a number from 0"),
    (PtuTag("TTResult_NumberOfRecords", Kind.BOOL, True), "is True, allowed is a number from 0"),
]


@pytest.mark.parametrize(("tag", "told"), HEADERS)
def test_a_wrong_value_in_the_header_is_told(tag, told, tmp_path):
    path = file_of(tmp_path / "a.ptu", T2, range(10))
    with path.open("rb") as file:
        tags = [found for found in read_header(file, path) if found.name != tag.name]
    with path.open("wb") as file:
        write_header(file, [*tags, tag])
    with pytest.raises(TagsUnreadable, match=f"header: {tag.name} {told}"):
        PtuFile(path)


EVERY_VALUE = [
    PtuTag("empty", Kind.EMPTY, None),
    PtuTag("yes", Kind.BOOL, True),
    PtuTag("no", Kind.BOOL, False),
    PtuTag("listed", Kind.INT, -7, 0),
    PtuTag("listed", Kind.INT, 7, 1),
    PtuTag("bits", Kind.BITS, 0x55),
    PtuTag("colour", Kind.COLOUR, 0xFF00FF),
    PtuTag("number", Kind.FLOAT, 1.25e-11),
    PtuTag("date", Kind.DATE, 43865.5),
    PtuTag("numbers", Kind.FLOATS, (1.0, -2.5)),
    PtuTag("text", Kind.TEXT, "1 µm, eight"),
    PtuTag("wide", Kind.WIDE_TEXT, "Größe \N{GREEK SMALL LETTER ETA}"),
    PtuTag("blob", Kind.BLOB, b"12345678"),
]


def test_values_of_every_type_come_back_from_the_header(tmp_path):
    path = tmp_path / "a.ptu"
    with path.open("wb") as file:
        write_header(file, EVERY_VALUE)
    assert path.stat().st_size % 8 == 0
    with path.open("rb") as file:
        assert read_header(file, path) == EVERY_VALUE
        assert file.read() == b""


def test_a_text_of_an_older_program_is_read_as_latin_1(tmp_path):
    path = tmp_path / "a.ptu"
    with path.open("wb") as file:
        write_header(file, [PtuTag("text", Kind.BLOB, "1 µm".encode("latin-1"))])
    content = bytearray(path.read_bytes())
    content[52:56] = struct.pack("<I", Kind.TEXT)
    path.write_bytes(content)
    with path.open("rb") as file:
        assert read_header(file, path) == [PtuTag("text", Kind.TEXT, "1 µm")]


@pytest.mark.parametrize("length", [-8, 1 << 20, 1 << 40, (1 << 63) - 1])
def test_a_value_longer_than_the_file_is_not_read(length, tmp_path):
    path = tmp_path / "a.ptu"
    with path.open("wb") as file:
        write_header(file, [PtuTag("text", Kind.TEXT, "short")])
    content = bytearray(path.read_bytes())
    content[56:64] = struct.pack("<q", length)
    path.write_bytes(content)
    with path.open("rb") as file, pytest.raises(TagsUnreadable, match="header tag 0 at byte 16"):
        read_header(file, path)


def test_what_a_record_cannot_hold_is_not_written(tmp_path):
    one = np.ones(1, np.int64)
    plain = {"coarse": one, "flags": 0 * one, "fine": 0 * one}
    for kind, change, told in (
        (T2, {"channel": 65 * one}, "channel 65 to 65, the record allows 0 to 64"),
        (T3, {"channel": 0 * one}, "channel 0 to 0, the record allows 1 to 64"),
        (PICO_T3, {"channel": 5 * one}, "the record allows 1 to 4"),
        (T2, {"channel": one, "fine": one}, "fine time 1 to 1, the record allows 0 to 0"),
        (T2, {"channel": one, "coarse": -one}, "an event lies before the last overflow"),
    ):
        events = PtuEvents(**(plain | {"channel": one} | change))
        with pytest.raises(ConfigError, match=told):
            write_ptu(tmp_path / "a.ptu", kind, [events], settings_of(kind))


def test_a_resolution_is_taken_as_the_decimal_number_that_it_is(tmp_path):
    path = file_of(tmp_path / "a.ptu", T3, [])
    info = PtuFile(path).info
    assert (info.tick, info.sync_period) == (25, SYNC)
