"""Tags of one format written in another: the same tags, or no file."""

from fractions import Fraction

import numpy as np
import pytest

from qkd_core.errors import ConfigError
from qkd_sim_link.formats.convert import WRITERS, convert, stream_of
from qkd_sim_link.formats.native_reader import NativeFile
from qkd_sim_link.formats.ptu import PtuFile
from qkd_sim_link.formats.ptu_types import BY_NAME
from qkd_sim_link.formats.ptu_writer import PtuEvents, PtuSettings, write_ptu
from qkd_sim_link.formats.qutag import HEADER_BYTES, RECORD, QutagFile
from qkd_sim_link.formats.recording import TAG, TagInfo, TagsUnreadable
from qkd_sim_link.formats.survey import surveyed

EVERY_FORM = pytest.mark.parametrize("to", WRITERS)


def silent(_n):
    """No progress is shown."""


@pytest.fixture
def t3(tmp_path):
    """A T3 file with markers and fine times."""
    n = 400
    rng = np.random.default_rng(2)
    marker = rng.random(n) < 0.1
    events = PtuEvents(
        coarse=np.cumsum(rng.integers(0, 900, n)),
        channel=rng.integers(1, 5, n).astype(np.uint8),
        flags=np.where(marker, 8, 0).astype(np.uint8),
        fine=np.where(marker, 0, rng.integers(0, 400, n)).astype(np.uint16),
    )
    path = tmp_path / "a.ptu"
    settings = PtuSettings(tick=Fraction(25), sync_period=Fraction(12_500))
    write_ptu(path, BY_NAME["TimeHarp 260 P T3"], [events], settings)
    return PtuFile(path)


def read_back(out, to):
    if to == "native":
        return np.concatenate([tags for _, tags in NativeFile(out).chained()])
    if to == "npy":
        return np.load(out)
    rows = np.loadtxt(out, np.int64, delimiter=",", skiprows=1)
    return np.array([tuple(row) for row in rows.tolist()], TAG)


@EVERY_FORM
def test_every_column_of_every_tag_is_in_the_file(to, t3, tmp_path, columns):
    out = tmp_path / "out"
    n = convert(t3, surveyed(t3), out, to, silent)

    assert out.stat().st_mode & 0o777 == 0o600
    found = columns(t3)
    tags = read_back(out, to)
    assert tags.dtype == TAG
    assert n == tags.size == 400
    for name, member in (("time", "t"), ("channel", "det"), ("flags", "flags"), ("aux", "aux")):
        assert tags[member].tolist() == found[name].tolist()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.ptu", "out"]


def test_the_watermark_holds_for_tags_out_of_order(tmp_path):
    rng = np.random.default_rng(4)
    n = 300_000  # some batches
    time = np.arange(n) * 1000 + rng.integers(0, 90_000, n)
    records = np.empty(n, RECORD)
    records["t"], records["channel"] = time, 1
    path, out = tmp_path / "a.qutag", tmp_path / "a.tags"
    path.write_bytes(bytes(HEADER_BYTES) + records.tobytes())
    file = QutagFile(path)

    convert(file, surveyed(file), out, "native", silent)

    read = list(NativeFile(out).chained())  # which verifies the watermarks
    assert len(read) > 3
    assert not any(header.sorted for header, _ in read)
    marks = [header.watermark for header, _ in read]
    assert marks == sorted(marks)
    tops = np.maximum.accumulate([int(tags["t"].max()) for _, tags in read])
    assert all(top - mark < 90_000 for top, mark in zip(tops, marks, strict=True))
    assert marks[-2] > 150_000 * 1000


@EVERY_FORM
def test_a_damaged_file_leaves_nothing_behind(to, t3, tmp_path):
    path = tmp_path / "a.ptu"
    found = surveyed(t3)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(TagsUnreadable):
        convert(PtuFile(path), found, tmp_path / "out", to, silent)
    assert [each.name for each in tmp_path.iterdir()] == ["a.ptu"]


@EVERY_FORM
def test_what_exists_is_not_overwritten(to, t3, tmp_path):
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(ConfigError, match=f"{out} exists: it is not overwritten"):
        convert(t3, surveyed(t3), out, to, silent)
    assert out.read_text() == "mine"


@EVERY_FORM
def test_a_folder_that_is_not_there_is_told(to, t3, tmp_path):
    with pytest.raises(ConfigError, match="cannot be written \\(No such file or directory\\)"):
        convert(t3, surveyed(t3), tmp_path / "none" / "out", to, silent)


def test_other_settings_of_the_device_are_another_stream():
    def digest(**header):
        info = TagInfo(format="ptu", device="a", tick=Fraction(1), header=header)
        return stream_of(info).cfg_digest

    assert digest(level=50) == digest(level=50) != digest(level=60)
