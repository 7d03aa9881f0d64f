"""What is told of a file, beside a plain count of it."""

import tracemalloc
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.errors import LinkError
from qkd_sim_link.formats import channel_lags
from qkd_sim_link.formats.channel_lags import file_lags
from qkd_sim_link.formats.ptu import PtuFile
from qkd_sim_link.formats.ptu_types import BY_NAME
from qkd_sim_link.formats.ptu_writer import PtuEvents, PtuSettings, write_ptu
from qkd_sim_link.formats.recording import MARKER, TagBatch, TagInfo, TagsUnreadable
from qkd_sim_link.formats.survey import surveyed
from qkd_sim_link.tags.histogram import lags

FORMAT = {"format": "memory", "device": "none"}


@dataclass
class MemoryFile:
    """Tags in memory, in batches of a few, and damage after them if told so."""

    time: list[int]
    channel: list[int]
    marker: list[bool]
    tick: Fraction = Fraction(1)
    each: int = 3
    damage: TagsUnreadable | None = None
    info: TagInfo = field(init=False)

    def __post_init__(self):
        self.info = TagInfo(**FORMAT, tick=self.tick)

    def batches(self, records=0):
        for start in range(0, len(self.time), self.each):
            part = slice(start, start + self.each)
            n = len(self.time[part])
            yield TagBatch(
                time=np.array(self.time[part], np.int64),
                channel=np.array(self.channel[part], np.uint8),
                flags=np.where(self.marker[part], MARKER, 0).astype(np.uint8),
                aux=np.zeros(n, np.uint16),
                n_records=n + 1,
                overflows=2,
            )
        if self.damage:
            raise self.damage


@st.composite
def files(draw, tick=Fraction(1)):
    n = draw(st.integers(0, 40))
    rows = draw(
        st.lists(
            st.tuples(st.integers(-50, 200), st.integers(0, 3), st.booleans()),
            min_size=n,
            max_size=n,
        )
    )
    step = draw(st.sampled_from([0, 20]))
    return MemoryFile(
        time=[t + step * place for place, (t, _, _) in enumerate(rows)],
        channel=[channel for _, channel, _ in rows],
        marker=[marker and channel == 3 for _, channel, marker in rows],
        tick=tick,
        each=draw(st.integers(1, 7)),
    )


@settings(deadline=None)
@given(file=files())
def test_a_survey_counts_what_a_plain_loop_counts(file):
    found = surveyed(file)

    times = file.time
    tags = list(zip(times, file.channel, file.marker, strict=True))
    assert found.markers == sum(file.marker)
    assert found.n_tags == len(tags)
    assert found.first == min(times, default=None)
    assert found.last == max(times, default=None)
    back = [a - b for a, b in pairwise(times) if b < a]
    assert (found.steps_back, found.largest_back) == (len(back), max(back, default=0))
    late = [max(times[: place + 1]) - t for place, t in enumerate(times)]
    assert found.latest == max(late, default=0)
    batches = -(-len(tags) // file.each)
    assert (found.n_records, found.overflows) == (len(tags) + batches, 2 * batches)
    for channel in range(4):
        own = [t for t, c, marker in tags if c == channel and not marker]
        gaps = [b - a for a, b in pairwise(own) if b >= a]
        assert (channel in found.channels) == bool(own)
        if own:
            told = found.channels[channel]
            assert (told.count, told.shortest) == (len(own), min(gaps, default=None))


def test_rates_and_durations_are_in_seconds():
    file = MemoryFile(
        time=[0, 256 * 10**9], channel=[1, 1], marker=[False] * 2, tick=Fraction(125, 32)
    )
    found = surveyed(file)
    assert found.duration_s == 1.0
    assert found.rate_hz(1) == 2.0


def test_a_file_without_a_duration_has_no_rate():
    assert surveyed(MemoryFile(time=[5], channel=[1], marker=[False])).rate_hz(1) is None
    assert surveyed(MemoryFile(time=[], channel=[], marker=[])).duration_s == 0.0


def test_damage_is_told_with_what_precedes_it():
    damage = TagsUnreadable(Path("a"), "record 5", "is odd")
    found = surveyed(MemoryFile(time=[1, 2], channel=[1, 1], marker=[False] * 2, damage=damage))
    assert found.n_tags == 2
    assert found.damage == "a: record 5: is odd"
    assert found.damaged is damage


@settings(deadline=None)
@given(
    file=files(tick=Fraction(125, 32)),
    bin_ps=st.integers(1, 60),
    reach_ps=st.integers(1, 500),
)
def test_lags_of_a_file_are_those_of_all_its_tags_in_order(file, bin_ps, reach_ps):
    found = surveyed(file)
    if not {1, 2} <= set(found.channels):
        return
    tags = list(zip(file.time, file.channel, file.marker, strict=True))
    zero = min(file.time)

    def whole_ps(channel):
        own = [t for t, c, marker in tags if c == channel and not marker]
        rounded = [((t - zero) * 125 + 16) // 32 for t in own]
        return np.array(sorted(rounded), np.int64)

    at_once = lags(whole_ps(1), whole_ps(2), bin_ps, reach_ps)

    in_parts = file_lags(file, found, (1, 2), (bin_ps, reach_ps))

    assert in_parts.counts.tolist() == at_once.counts.tolist()
    assert in_parts.low_ps == at_once.low_ps
    assert (in_parts.n_a, in_parts.n_b) == (at_once.n_a, at_once.n_b)
    assert in_parts.span_ps >= at_once.span_ps


def test_only_the_tags_that_may_still_pair_are_held(monkeypatch):
    """Tags 1 us apart, a reach of 10 us: some dozens are enough."""
    held = []
    counting = channel_lags._Counting._count

    def watched(self, until):
        counting(self, until)
        held.append(max(part.size for part in self._held))

    monkeypatch.setattr(channel_lags._Counting, "_count", watched)
    n = 20_000
    file = MemoryFile(
        time=list(range(0, n * 10**6, 10**6)),
        channel=[1 + place % 2 for place in range(n)],
        marker=[False] * n,
        each=500,
    )
    found = file_lags(file, surveyed(file), (1, 2), (10**6, 10**7))
    assert found.counts.sum() > 0
    assert max(held) < 50


@pytest.mark.parametrize(
    ("channels", "bins", "told"),
    [
        ((1, 7), (10, 100), "channel 7 has no tags, the file has channels 1, 2"),
        ((1, 1), (10, 100), "channels 1,1: name two that differ"),
        ((1, 2), (0, 100), "bins of 0 ps up to 100 ps"),
        ((1, 2), (1, 1 << 40), "at most 16,777,216 bins"),
    ],
)
def test_channels_and_bins_that_cannot_be_are_told(channels, bins, told):
    file = MemoryFile(time=[1, 2], channel=[1, 2], marker=[False] * 2)
    with pytest.raises(LinkError, match=told):
        file_lags(file, surveyed(file), channels, bins)


def test_a_time_that_is_no_int64_in_ps_is_told():
    file = MemoryFile(time=[0, 1 << 61], channel=[1, 2], marker=[False] * 2, tick=Fraction(10))
    with pytest.raises(LinkError, match=r"are more than 2\^62 ps can hold"):
        file_lags(file, surveyed(file), (1, 2), (10, 100))


def test_tags_too_many_to_hold_or_to_pair_are_told(monkeypatch):
    """One tag a day ahead of all others makes them wait; tags at one time all pair."""
    n = 1000
    ahead = MemoryFile(
        time=[86_400 * 10**12, *range(n)], channel=[1, *[2, 1] * (n // 2)], marker=[False] * (n + 1)
    )
    monkeypatch.setattr(channel_lags, "HELD_MAX", 500)
    with pytest.raises(LinkError, match=r"50\d events may still have partners, at most 500 can"):
        file_lags(ahead, surveyed(ahead), (1, 2), (10, 100))
    at_once = MemoryFile(time=[5] * n, channel=[1, 2] * (n // 2), marker=[False] * n)
    monkeypatch.setattr(channel_lags, "HELD_MAX", n)
    monkeypatch.setattr(channel_lags, "PAIRS_MAX", 500 * 500 - 1)
    with pytest.raises(LinkError, match="250,000 pairs within 100 ps, at most 249,999 are counted"):
        file_lags(at_once, surveyed(at_once), (1, 2), (10, 100))


def test_memory_does_not_grow_with_the_file(tmp_path):
    """16 MB of records in 4 MB."""
    n = 4 << 20
    none = np.zeros(n, np.uint8)
    coarse = np.arange(n, dtype=np.int64) * 1000
    events = PtuEvents(coarse=coarse, channel=none, flags=none, fine=none.astype(np.uint16))
    write_ptu(tmp_path / "a.ptu", BY_NAME["MultiHarp T2"], [events], PtuSettings())
    file = PtuFile(tmp_path / "a.ptu")
    tracemalloc.start()
    found = surveyed(file)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.n_tags == n
    assert most < 4 << 20
