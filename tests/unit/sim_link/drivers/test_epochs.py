"""A driver's epochs as the engines take them: whole, verified and in order, or LinkDown."""

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import LinkDown
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import PairSettings
from qkd_sim_link.drivers.contract import dropped, made
from qkd_sim_link.drivers.epochs import EpochEnd, whole_ps
from qkd_sim_link.formats.native import Chain
from qkd_sim_link.formats.recording import TAG

sys.path.insert(0, str(Path(__file__).parent))
import memory_source as sources

sys.path.pop(0)

SETTINGS = PairSettings(link_s=0.05, window_ps=600, hold_off_ps=50_000, resolution_ps=128)
ONE = BlockId(1)


def tags_of(source, channels=(0, 1, 2, 3)):
    end = EpochEnd(source, channels)
    end.arm(ONE, SETTINGS)
    return end.tags(ONE)


def test_an_epoch_is_all_tags_in_order_by_detector():
    source = sources.MemorySource()
    found = tags_of(source, channels=(3, 2, 1, 0))

    np.testing.assert_array_equal(found.time_ps, source.tags["t"])
    np.testing.assert_array_equal(found.detector, 3 - source.tags["det"])
    assert found.provenance is Provenance.SIMULATED


class Unsorted(sources.MemorySource):
    """Its tags come up to a reorder window late, and its watermarks say so."""

    def batches(self):
        shuffled = self.tags[np.argsort(self.tags["t"] // 10**9, kind="stable")].copy()
        shuffled[::2], shuffled[1::2] = self.tags[1::2].copy(), self.tags[::2].copy()
        chain = Chain(self.stream())
        half = shuffled.size // 4 * 2
        for part, rest in ((shuffled[:half], shuffled[half:]), (shuffled[half:], shuffled[half:])):
            yield made(chain, self.armed[0], part.copy(), int(rest["t"].min()))


def test_tags_that_come_late_are_put_in_order():
    source = Unsorted()
    source.drawn = lambda seed, link_s: sources.MemorySource.drawn(source, seed, link_s)[:1000]
    found = tags_of(source)

    assert np.all(np.diff(found.time_ps) >= 0)
    assert found.time_ps.size == 1000


class Dropped(sources.MemorySource):
    def batches(self):
        yield dropped(self.stream(), self.armed[0], 17)


class Silent(sources.MemorySource):
    def batches(self):
        yield from ()


class OfOtherSettings(sources.MemorySource):
    def stream(self):
        return replace(super().stream(), cfg_digest="other")


class OfAnotherEpoch(sources.Retold):
    def retold(self, batch):
        return sources.with_header(batch, epoch=batch.header.epoch + 1)


class Shortened(sources.MemorySource):
    """It leaves out a batch in the middle."""

    def batches(self):
        for batch in super().batches():
            if batch.header.seq != 1:
                yield batch


class Mixed(sources.MemorySource):
    def batches(self):
        for batch in super().batches():
            other = replace(batch.stream, driver="another")
            yield replace(batch, stream=other) if batch.header.seq else batch


class BeforeTime(sources.Changed):
    def changed(self, tags):
        tags["t"] -= 1 << 60
        return tags


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Dropped, "17 events missed: the epoch is dropped"),
        (Silent, "gave no batch"),
        (OfOtherSettings, "made with other settings than armed"),
        (OfAnotherEpoch, "belongs to epoch 2"),
        (Shortened, "its number is 2"),
        (Mixed, "another stream begins within the epoch"),
        (BeforeTime, "times from -"),
        (sources.WrongHash, "its hash is not that of its content"),
        (sources.WrongCount, "its header says"),
        (sources.LateBatches, "is before the watermark"),
        (sources.Unlocked, "clock is unlocked"),
        (sources.UnlockedByFlag, "flagged as of a loss"),
        (sources.HalfLost, "flagged as of a loss"),
        (sources.UnknownChannel, "channel 9, which is no detector's"),
    ],
)
def test_an_epoch_that_is_not_whole_is_no_epoch(kind, reason):
    with pytest.raises(LinkDown, match=reason):
        tags_of(kind())


def test_only_the_armed_block_is_given():
    end = EpochEnd(sources.MemorySource())
    with pytest.raises(LinkDown, match="block 1 is not armed"):
        end.tags(ONE)
    end.arm(ONE, SETTINGS)
    with pytest.raises(LinkDown, match="block 2 is not armed"):
        end.tags(BlockId(2))


def test_the_batches_are_wiped_when_they_are_taken():
    kept = []

    class Watched(sources.Retold):
        def retold(self, batch):
            kept.append(batch.tags)
            return batch

    tags_of(Watched())
    assert kept
    assert not any(tags["det"].any() for tags in kept)


@given(
    st.lists(st.integers(-(2**55), 2**55), min_size=1, max_size=20),
    st.fractions(Fraction(1, 1000), 100, max_denominator=10**6),
)
def test_ticks_become_whole_ps_exactly(times, tick):
    found = whole_ps(np.array(times, np.int64), tick)

    assert found.tolist() == [int(t * tick // 1) for t in times]


def test_markers_are_no_detections():
    class Marked(sources.Changed):
        def changed(self, tags):
            tags["flags"][::10] = 8
            tags["det"][::10] = 77
            return tags

    source = Marked()
    assert tags_of(source).time_ps.size == np.count_nonzero(source.tags["flags"] == 0)
    assert source.tags.dtype == TAG
