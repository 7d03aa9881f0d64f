"""A file is known by what it holds; where that does not say, by its name."""

from fractions import Fraction

import numpy as np
import pytest

from qkd_core.errors import ConfigError
from qkd_sim_link.formats.native import NativeWriter, Stream
from qkd_sim_link.formats.opening import FORMATS, by_content, by_name, open_tags
from qkd_sim_link.formats.ptu_types import BY_NAME
from qkd_sim_link.formats.ptu_writer import PtuEvents, PtuSettings, write_ptu
from qkd_sim_link.formats.qutag import write_qutag
from qkd_sim_link.formats.recording import TagBatch, TagsUnreadable
from qkd_sim_link.formats.s15 import LAYOUTS, packed, write_s15

N = 500


def written(path, form):
    """A file of light at about a million events a second, a few of them out of order."""
    rng = np.random.default_rng(7)
    time = 17_821_472_680_578_496 + np.cumsum(rng.integers(1000, 500_000, N))
    time[50], time[51] = time[51], time[50]
    channel = rng.integers(1, 5, N).astype(np.uint8)
    none = np.zeros(N, np.uint8)
    batch = TagBatch(time=time, channel=channel, flags=none, aux=none.astype("u2"), n_records=N)
    if form == "ptu":
        events = PtuEvents(coarse=np.sort(time), channel=channel, flags=none, fine=none)
        write_ptu(path, BY_NAME["MultiHarp T2"], [events], PtuSettings())
    elif form == "qutag":
        write_qutag(path, [batch])
    elif form == "native":
        stream = Stream(link="", side="", driver="", tick=Fraction(1), cfg_digest="")
        with NativeWriter(path, stream) as writer:
            writer.write(batch.tags(), watermark=0)
    else:
        write_s15(path, LAYOUTS[form], packed(time, np.left_shift(1, channel - 1)))
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_known_by_its_content(form, tmp_path, columns):
    file = open_tags(written(tmp_path / "a.dat", form))
    assert file.info.format == form
    assert columns(file)["time"].size == N


@pytest.mark.parametrize("form", FORMATS)
def test_content_comes_before_the_name(form, tmp_path):
    other = "a.qutag" if form != "qutag" else "a.Aa1.ts"
    assert open_tags(written(tmp_path / other, form)).info.format == form


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.ptu", "ptu"),
        ("A.PTU", "ptu"),
        ("a.qutag", "qutag"),
        ("a.tags", "native"),
        ("timestamp7_c14.Aa0f.ts", "s15-a0"),
        ("timestamp7_c14.Aa1fX.ts", "s15-a1x"),
        ("c1.a1X.dat", "s15-a1x"),
        ("run_a2.ts", "s15-a2"),
        ("data1.ts", None),
        ("banana1", None),
    ],
)
def test_names(name, form, tmp_path):
    assert by_name(tmp_path / name) == form


def test_too_few_records_are_known_by_the_name_only(tmp_path):
    words = packed(np.array([1000, 2000]), np.array([1, 2]))
    for layout in LAYOUTS.values():
        path = tmp_path / f"a.{layout.name[4:]}"
        write_s15(path, layout, words)
        assert by_content(path.read_bytes()) is None
        assert open_tags(path).info.format == layout.name
        path.rename(tmp_path / "nameless")
        with pytest.raises(TagsUnreadable, match="is in no format that is known"):
            open_tags(tmp_path / "nameless")
        (tmp_path / "nameless").unlink()


def test_what_is_no_tag_is_refused(tmp_path):
    rng = np.random.default_rng(5)
    for name, content in (
        ("random", rng.bytes(200_000)),  # taken for tags with a probability below 1e-9
        ("zeros", bytes(100_000)),
        ("ones", b"\xff" * 100_000),
        ("text", b"A line of text, and more of them.\n" * 1000),
        ("histogram", b"PQHISTO\0" + bytes(4000)),
        ("numbers", b"12345678\n" * 1000),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(TagsUnreadable, match="is in no format that is known"):
            open_tags(path)


def test_what_is_not_there_is_told(tmp_path):
    (tmp_path / "empty").touch()
    for name, told in (("empty", "is empty"), ("none", "does not exist"), ("", "is no file")):
        with pytest.raises(TagsUnreadable, match=told):
            open_tags(tmp_path / name)


def test_a_format_can_be_named(tmp_path):
    path = written(tmp_path / "a.dat", "s15-a1")
    assert open_tags(path, "s15-a1x").info.format == "s15-a1x"
    with pytest.raises(TagsUnreadable, match="byte 0: no PicoQuant PTU file"):
        open_tags(path, "ptu")
    with pytest.raises(ConfigError, match="format 'hdf5', known are ptu, qutag, native, s15-a0"):
        open_tags(path, "hdf5")
