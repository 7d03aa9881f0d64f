"""Tags become whole epochs in order; what is incomplete is dropped whole and says so."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import LinkError
from qkd_sim_link.tags.reorder import EPOCHS_MAX, Ordering, epochs

ORDERING = Ordering(window_ps=100, epoch_ps=1000, tags_max=50)


def batch(*pairs):
    time_ps, channel = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(time_ps, np.int64), np.array(channel, np.uint8)


def told(batches, ordering=ORDERING):
    return [
        (epoch.number, epoch.time_ps.tolist(), epoch.channel.tolist(), epoch.missed)
        for epoch in epochs(batches, ordering)
    ]


def by_hand(tags, ordering):
    """Epochs of a whole stream at once; None where a tag comes after its epoch is complete."""
    newest, late = None, set()
    for time, _ in tags:
        newest = time if newest is None else newest
        if time // ordering.epoch_ps < (newest - ordering.window_ps) // ordering.epoch_ps:
            return None
        if time < newest - ordering.window_ps:
            late.add(time // ordering.epoch_ps)
        newest = max(newest, time)
    result = []
    numbers = [time // ordering.epoch_ps for time, _ in tags]
    for number in range(min(numbers), max(numbers) + 1) if tags else ():
        inside = sorted(
            (tag for tag in tags if tag[0] // ordering.epoch_ps == number), key=lambda tag: tag[0]
        )
        dropped = number in late or len(inside) > ordering.tags_max
        kept = [] if dropped else inside
        result.append(
            (
                number,
                [time for time, _ in kept],
                [channel for _, channel in kept],
                len(inside) if dropped else 0,
            )
        )
    return result


@st.composite
def streams(draw):
    steps = draw(st.lists(st.integers(-150, 400), max_size=80))
    begin = draw(st.integers(-5000, 1 << 60))
    times = begin + np.cumsum(np.array(steps, np.int64))
    channels = draw(st.lists(st.integers(0, 7), min_size=len(steps), max_size=len(steps)))
    return list(zip(times.tolist(), channels, strict=True))


@given(streams(), st.lists(st.integers(0, 80), max_size=6), st.integers(3, 40))
def test_epochs_are_the_same_however_the_stream_is_cut_into_batches(stream, cuts, tags_max):
    ordering = Ordering(window_ps=100, epoch_ps=1000, tags_max=tags_max)
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    batches = [batch(*stream[i:j]) for i, j in pairwise(ends)]

    expected = by_hand(stream, ordering)

    if expected is None:
        with pytest.raises(LinkError, match="after its epoch is complete"):
            told(batches, ordering)
    else:
        assert told(batches, ordering) == expected


def test_no_epoch_has_a_time_before_the_watermark_of_an_earlier_one():
    rng = np.random.default_rng(2)
    times = np.sort(rng.integers(0, 10**6, 20_000)) + rng.integers(-49, 50, 20_000)
    parts = [(part, np.zeros(part.size, np.int16)) for part in np.array_split(times, 37)]

    found = list(epochs(parts, ORDERING))

    watermark = -(1 << 62)
    for epoch in found:
        assert np.all(epoch.time_ps >= watermark)
        assert np.all(np.diff(epoch.time_ps) >= 0)
        watermark = epoch.watermark
        assert np.all(epoch.time_ps < watermark)
        assert epoch.channel.dtype == np.int16
    assert sum(epoch.time_ps.size for epoch in found) == times.size


def test_equal_times_keep_the_order_in_which_they_came():
    stream = [(500, 3), (480, 1), (500, 0), (480, 2)]

    assert told([batch(*stream)]) == [(0, [480, 480, 500, 500], [1, 2, 3, 0], 0)]


def test_a_tag_at_the_very_end_of_the_window_is_in_time_and_one_beyond_drops_its_epoch():
    assert told([batch((400, 0), (300, 1))]) == [(0, [300, 400], [1, 0], 0)]
    assert told([batch((400, 0), (299, 1), (1500, 2))]) == [(0, [], [], 2), (1, [1500], [2], 0)]


def test_an_epoch_is_given_out_as_soon_as_nothing_of_it_may_come():
    given_out = epochs(iter([batch((900, 0), (1099, 1)), batch((1100, 2))]), ORDERING)

    assert next(given_out).time_ps.tolist() == [900]
    assert next(given_out).time_ps.tolist() == [1099, 1100]
    assert next(given_out, None) is None


def test_an_epoch_with_too_many_tags_is_dropped_and_the_next_one_is_whole():
    crowd = [(k, 0) for k in range(51)]

    assert told([batch(*crowd[:30]), batch(*crowd[30:]), batch((1500, 1))]) == [
        (0, [], [], 51),
        (1, [1500], [1], 0),
    ]


def test_memory_is_bounded_by_what_an_epoch_may_hold():
    """Of 11 MB of tags in one epoch no more is kept than has room, and a batch at work."""
    flood = ((np.full(20_000, k), np.zeros(20_000, np.uint8)) for k in range(60))

    tracemalloc.start()
    found = told(flood, Ordering(window_ps=200, epoch_ps=10**6, tags_max=50_000))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found == [(0, [], [], 1_200_000)]
    assert most < 5e6


def test_a_leap_of_time_is_refused():
    with pytest.raises(LinkError, match=f"leaps by .* at most {EPOCHS_MAX} epochs"):
        told([batch((0, 0), (1 << 60, 0))])


@pytest.mark.parametrize("far", [(1 << 61) + 1, -(1 << 62)])
def test_times_whose_differences_do_not_fit_are_refused(far):
    with pytest.raises(LinkError, match=r"at most 2\^61"):
        told([batch((0, 0), (far, 0))])


def test_tags_without_a_channel_each_are_refused():
    with pytest.raises(LinkError, match=r"\(2,\) time tags, \(1,\) channels"):
        told([(np.array([1, 2]), np.array([1], np.uint8))])


@pytest.mark.parametrize("wrong", [{"window_ps": -1}, {"epoch_ps": 0}, {"tags_max": 0}])
def test_an_ordering_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 0, 1 and 1"):
        Ordering(**{"window_ps": 1, "epoch_ps": 1, "tags_max": 1} | wrong)
