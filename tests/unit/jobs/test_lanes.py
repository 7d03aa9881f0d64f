"""Lanes: few threads, made when needed, ended when idle."""

import logging
import threading
import time

from keyferry.refresh.lanes import MOST_THREADS, Lane, Lanes


def threads_of(name):
    return [each for each in threading.enumerate() if each.name == f"lane {name}"]


def test_a_lane_has_few_threads_and_does_all_that_it_is_given(wait_for):
    lane, go, done = Lane("few"), threading.Event(), []
    for number in range(50):
        lane.submit(lambda number=number: (go.wait(10), done.append(number)))
    assert len(threads_of("few")) == MOST_THREADS
    go.set()
    wait_for(lambda: sorted(done) == list(range(50)))
    lane.close()
    assert lane.join(time.monotonic() + 5)


def test_a_thread_that_has_nothing_to_do_ends_and_another_is_made(wait_for):
    lane, done = Lane("idle", idle_s=0.05), []
    for number in range(3):
        lane.submit(lambda number=number: done.append(number))
        wait_for(lambda number=number: number in done)
        wait_for(lambda: not threads_of("idle"))
    assert done == [0, 1, 2]


def test_one_idle_thread_is_enough_for_work_that_comes_one_by_one(wait_for):
    lane, done = Lane("one"), []
    for number in range(20):
        lane.submit(lambda number=number: done.append(number))
        wait_for(lambda number=number: number in done and lane._idle)
    assert len(threads_of("one")) == 1
    lane.close()
    assert lane.join(time.monotonic() + 5)


def test_a_defect_leaves_the_lane_going(wait_for, caplog):
    lane, done = Lane("defect", most_threads=1), []
    lane.submit(lambda: 1 / 0)
    lane.submit(lambda: done.append(1))
    wait_for(lambda: done == [1])
    assert "a job of lane defect failed" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR
    lane.close()
    assert lane.join(time.monotonic() + 5)


def test_a_lane_that_hangs_holds_up_no_other_one_and_not_the_end(wait_for):
    lanes, go, done = Lanes(), threading.Event(), []
    for _ in range(2 * MOST_THREADS):
        lanes.of("dead").submit(lambda: go.wait(10))
    lanes.of("alive").submit(lambda: done.append(1))
    wait_for(lambda: done == [1])
    began = time.monotonic()
    assert not lanes.close(0.1), "calls are under way"
    assert time.monotonic() < began + 5
    lanes.of("alive").submit(lambda: done.append(2))
    go.set()
    assert lanes.of("dead").join(time.monotonic() + 5), "what waited was dropped"
    assert done == [1]
