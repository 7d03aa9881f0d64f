"""Whatever a file holds: tags, or one line that says where it is damaged; soon, in little memory.

Files that our writers made are changed at random: bits, cuts, bytes put in or taken out, whole
words of the header replaced by large and negative numbers.
"""

import time
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from qkd_sim_link.formats.native import NativeWriter, Stream
from qkd_sim_link.formats.opening import FORMATS, open_tags
from qkd_sim_link.formats.ptu_types import RECORD_TYPES
from qkd_sim_link.formats.ptu_writer import PtuEvents, PtuSettings, write_ptu
from qkd_sim_link.formats.qutag import write_qutag
from qkd_sim_link.formats.recording import TagBatch, TagsUnreadable
from qkd_sim_link.formats.s15 import LAYOUTS, packed, write_s15
from qkd_sim_link.formats.survey import surveyed

TRIALS = 60
SECONDS_MAX = 2.0  # for one file of some kilobytes, on a busy machine
BYTES_MAX = 64 << 20
N = 300
LARGE = [-1, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63)]
PTU = {f"ptu {kind.name}": kind for kind in RECORD_TYPES.values()}
WRITTEN = [*(form for form in FORMATS if form != "ptu"), *PTU]


def written(path, form):
    rng = np.random.default_rng(3)
    gaps = rng.integers(1, 200_000, N)
    channel = rng.integers(1, 5, N).astype(np.uint8)
    none = np.zeros(N, np.uint8)
    if form in PTU:
        kind = PTU[form]
        period = Fraction(12_500) if kind.mode == "T3" else None
        coarse = np.cumsum(gaps % (2 * kind.period))
        events = PtuEvents(coarse=coarse, channel=channel, flags=none, fine=none)
        write_ptu(path, kind, [events], PtuSettings(sync_period=period))
        return
    time = np.cumsum(gaps)
    batch = TagBatch(time=time, channel=channel, flags=none, aux=none.astype("u2"), n_records=N)
    if form == "qutag":
        write_qutag(path, [batch])
    elif form == "native":
        stream = Stream(link="a", side="b", driver="", tick=Fraction(1), cfg_digest="")
        with NativeWriter(path, stream) as writer:
            writer.write(batch.tags()[:200], watermark=0)
            writer.write(batch.tags()[200:], watermark=0)
    else:
        write_s15(path, LAYOUTS[form], packed(time, np.left_shift(1, channel - 1)))


def damaged(content, rng):
    """The content with one to three changes."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, max(len(changed), 1)))
        early = int(rng.integers(0, min(len(changed), 700) or 1))
        match int(rng.integers(0, 6)):
            case 0 if changed:
                changed[place] ^= 1 << int(rng.integers(0, 8))
            case 1 if changed:
                changed[early] ^= 1 << int(rng.integers(0, 8))
            case 2:
                del changed[place:]
            case 3:
                changed[place:place] = rng.bytes(int(rng.integers(1, 50)))
            case 4:
                del changed[place : place + int(rng.integers(1, 50))]
            case _:
                value = LARGE[int(rng.integers(0, len(LARGE)))]
                at = early // 8 * 8
                changed[at : at + 8] = value.to_bytes(8, "little", signed=True)
    return bytes(changed)


@pytest.mark.parametrize("form", WRITTEN)
def test_a_damaged_file_gives_tags_or_one_line(form, tmp_path):
    path = tmp_path / "a"
    written(path, form)
    content, name = path.read_bytes(), form.split(" ")[0]
    surveyed(open_tags(path, name))  # what is loaded at first use is no part of a file's memory
    rng = np.random.default_rng(11)
    refused = 0
    for trial in range(TRIALS):
        path.write_bytes(damaged(content, rng))
        tracemalloc.start()
        began = time.monotonic()
        try:
            found = surveyed(open_tags(path, name if trial % 2 else None))
        except TagsUnreadable as error:
            told = str(error)
        else:
            told = found.damage
            assert found.n_tags <= 4 * path.stat().st_size
        took, (_, most) = time.monotonic() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert took < SECONDS_MAX
        assert most < BYTES_MAX
        if told:
            refused += 1
            assert told.startswith(f"{path}: ")
            assert "\n" not in told
            assert len(told) < 400 + len(str(path))
    assert refused > TRIALS // 4  # the changes do reach what is checked


@pytest.mark.parametrize("form", FORMATS)
def test_any_bytes_in_any_format_give_tags_or_one_line(form, tmp_path):
    rng = np.random.default_rng(13)
    path = tmp_path / "a"
    for length in (1, 7, 8, 39, 40, 41, 500, 5000):
        path.write_bytes(rng.bytes(length))
        try:
            found = surveyed(open_tags(path, form))
        except TagsUnreadable as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert found.n_tags <= 4 * length
