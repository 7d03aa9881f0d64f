import os
from threading import Thread

from qkd_api.one_processor import move_to, one_of_the_allowed, staying_on


def affinity_seen_by(act):
    seen = []
    thread = Thread(target=lambda: seen.append(act()))
    thread.start()
    thread.join()
    return seen[0]


def test_threads_started_inside_stay_on_the_processor_and_this_one_does_not():
    before, processor = os.sched_getaffinity(0), one_of_the_allowed()
    assert processor in before
    with staying_on(processor):
        assert affinity_seen_by(lambda: os.sched_getaffinity(0)) == {processor}
    assert os.sched_getaffinity(0) == before


def test_one_thread_moves_alone():
    before, processor = os.sched_getaffinity(0), one_of_the_allowed()

    def moved():
        move_to(processor)
        return os.sched_getaffinity(0)

    assert affinity_seen_by(moved) == {processor}
    assert os.sched_getaffinity(0) == before
