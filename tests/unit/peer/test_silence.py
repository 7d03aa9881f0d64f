"""A peer that accepts and does not answer costs one thread at a time, not all of them."""

import threading

import pytest

from keyferry.peer.silence import LONG_S, PAUSE_S, Silence
from qkd_core.errors import PeerSilent


class Peer:
    """Takes ``waits_s`` of the clock for an answer, or for none."""

    def __init__(self):
        self.now, self.calls, self.waits_s, self.answers = 0.0, 0, 3.0, False
        self.silence = Silence("kme-b", lambda: self.now)

    def call(self):
        with self.silence.broken():
            self.calls += 1
            self.now += self.waits_s
            if not self.answers:
                raise PeerSilent("no answer")


def test_after_a_long_silence_calls_fail_at_once_and_one_finds_out_more():
    peer = Peer()
    for _ in range(5):
        with pytest.raises(PeerSilent):
            peer.call()
    assert peer.calls == 1

    peer.now += PAUSE_S
    peer.answers = True
    peer.call()
    peer.call()
    assert peer.calls == 3


def test_a_refused_connection_keeps_nobody_waiting_and_is_tried_each_time():
    peer = Peer()
    peer.waits_s = LONG_S / 2
    for _ in range(3):
        with pytest.raises(PeerSilent):
            peer.call()
    assert peer.calls == 3


def test_while_one_finds_out_the_others_do_not_wait():
    peer = Peer()
    with pytest.raises(PeerSilent):
        peer.call()
    peer.now += PAUSE_S
    inside, going = threading.Event(), threading.Event()

    def find_out():
        with peer.silence.broken():
            inside.set()
            going.wait(10)

    thread = threading.Thread(target=find_out)
    thread.start()
    inside.wait(10)
    with pytest.raises(PeerSilent, match="a moment ago"):
        peer.call()
    going.set()
    thread.join()
    peer.answers = True
    peer.call()
