"""Blocks side by side: one at the link, at most so many in all, one error ends them together."""

import time
from threading import Event, Lock
from threading import enumerate as threads

import pytest

from keyferry.engine.flight import Flight
from qkd_core.errors import ChannelError
from qkd_core.types.ids import BlockId

SOON_S = 10.0


class Blocks:
    """Blocks that pass the link and end as the test says."""

    def __init__(self):
        self.off_link, self.over = {}, {}
        self.at_link = self.most_at_link = self.flying = self.most_flying = 0
        self.ended, self.interrupted = [], []
        self.fail = {}
        self.lock = Lock()
        self.given_up = Event()

    def event(self, events, block_id):
        with self.lock:
            return events.setdefault(block_id, Event())

    def run(self, block_id, link_is_free):
        with self.lock:
            self.at_link += 1
            self.flying += 1
            self.most_at_link = max(self.most_at_link, self.at_link)
            self.most_flying = max(self.most_flying, self.flying)
        try:
            self.wait(self.event(self.off_link, block_id))
        finally:
            with self.lock:
                self.at_link -= 1
        link_is_free()
        try:
            self.wait(self.event(self.over, block_id))
        finally:
            with self.lock:
                self.flying -= 1
                self.ended.append(block_id)
        if block_id in self.fail:
            raise self.fail[block_id]
        return block_id % 2 == 1

    def wait(self, event):
        end = time.monotonic() + SOON_S
        while not event.wait(0.002):
            if self.given_up.is_set():
                raise ChannelError("interrupted")
            assert time.monotonic() < end

    def interrupt(self, error):
        self.interrupted.append(error)
        self.given_up.set()

    def free_link(self, block_id):
        self.event(self.off_link, block_id).set()

    def finish(self, block_id):
        self.event(self.over, block_id).set()


@pytest.fixture
def blocks():
    made = Blocks()
    yield made
    made.given_up.set()
    end = time.monotonic() + SOON_S
    while any(thread.name.startswith("block-") for thread in threads()):
        assert time.monotonic() < end, "a thread is left"
        time.sleep(0.002)


def flight_of(blocks, at_most):
    return Flight(blocks.run, at_most, blocks.interrupt)


def test_the_link_serves_one_block_at_a_time(blocks):
    flight = flight_of(blocks, 8)
    for block in range(1, 7):
        assert flight.wait_free(SOON_S)
        flight.start(BlockId(block))
        assert flight.link_is_busy
        assert not flight.wait_free(0.01)
        blocks.free_link(block)
    for block in range(1, 7):
        blocks.finish(block)
    flight.land()
    assert (blocks.most_at_link, blocks.most_flying) == (1, 6)
    assert sorted(flight.outcomes()) == [False] * 3 + [True] * 3
    assert flight.outcomes() == []


@pytest.mark.parametrize("at_most", [1, 2, 4])
def test_slow_consumers_hold_the_link_and_no_more_than_agreed_are_in_flight(blocks, at_most):
    flight = flight_of(blocks, at_most)
    for block in range(1, at_most + 1):
        assert flight.wait_free(SOON_S)
        flight.start(BlockId(block))
        blocks.free_link(block)
    assert not flight.wait_free(0.05), "the link is free, but nobody may go on it"
    assert not flight.link_is_busy
    blocks.finish(at_most)
    assert flight.wait_free(SOON_S)
    flight.start(BlockId(at_most + 1))
    for block in range(1, at_most + 2):
        blocks.free_link(block)
        blocks.finish(block)
    flight.land()
    assert blocks.most_flying == at_most


def test_a_block_that_waits_for_the_peer_idles_no_other(blocks):
    """Block 1 waits all the time; nine others come and go."""
    flight = flight_of(blocks, 2)
    flight.start(BlockId(1))
    blocks.free_link(1)
    for block in range(2, 11):
        assert flight.wait_free(SOON_S)
        flight.start(BlockId(block))
        blocks.free_link(block)
        blocks.finish(block)
    assert flight.wait_free(SOON_S)
    assert blocks.ended == list(range(2, 11))
    blocks.finish(1)
    flight.land()


def test_the_error_of_one_ends_all_and_the_first_is_told(blocks):
    first = ChannelError("the first")
    blocks.fail = {2: first}
    flight = flight_of(blocks, 4)
    for block in (1, 2, 3):
        assert flight.wait_free(SOON_S)
        flight.start(BlockId(block))
        blocks.free_link(block)
    assert flight.wait_free(SOON_S)
    blocks.finish(2)
    assert blocks.given_up.wait(SOON_S)
    for method in (lambda: flight.wait_free(SOON_S), flight.land):
        with pytest.raises(ChannelError) as caught:
            method()
        assert caught.value is first
    assert blocks.interrupted == [first], "once"
    flight.abandon(first)
    assert sorted(blocks.ended) == [1, 2, 3]


def test_a_block_that_fails_at_the_link_frees_it(blocks):
    flight = flight_of(blocks, 2)
    blocks.fail = {1: ChannelError("early")}
    flight.start(BlockId(1))
    blocks.free_link(1)
    blocks.finish(1)
    with pytest.raises(ChannelError, match="early"):
        flight.land()
    assert not flight.link_is_busy
    assert flight.outcomes() == [False]


def test_to_abandon_waits_for_all_to_end(blocks):
    flight = flight_of(blocks, 3)
    flight.start(BlockId(1))
    blocks.free_link(1)
    assert flight.wait_free(SOON_S)
    flight.start(BlockId(2))
    reason = ChannelError("stopping")
    flight.abandon(reason)
    assert blocks.interrupted[0] is reason
    assert not flight.link_is_busy
    assert flight.outcomes() == [False, False]


def test_to_land_without_blocks_returns_at_once(blocks):
    flight = flight_of(blocks, 1)
    flight.land()
    flight.abandon(ChannelError("nothing flies"))
    assert flight.wait_free(0)
