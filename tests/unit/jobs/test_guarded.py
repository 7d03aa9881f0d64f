"""Sinks and the peer behind their breakers: what counts as an answer, and what is passed on."""

import threading
import time

import pytest

from keyferry.refresh.breaker import OPENS_AFTER, Breaker
from keyferry.refresh.guarded import MOST_CALLS, GuardedPeer, GuardedSink
from qkd_core.errors import PeerSilent, PeerUnavailable, RefreshRefused, SinkUnavailable
from qkd_core.types.ids import Generation, KeyId, Provenance
from qkd_core.types.keys import DeliveredKey
from qkd_kms_adapters.conformance import CHECKS
from qkd_kms_adapters.memory import MemorySink

KEY = DeliveredKey(key_id=KeyId("k"), secret=bytes(32), provenance=Provenance.SIMULATED)
SINK_CALLS = {
    "prepare": (KEY, Generation(1)),
    "publish": (KEY, Generation(1)),
    "agree": (Generation(1),),
    "abandon": (Generation(1),),
    "retire": (Generation(1),),
    "state": (),
    "versions": (),
}


class Down:
    """Every call is counted and fails."""

    def __init__(self, error):
        self.error, self.calls = error, []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            raise self.error

        return call


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_guarded_sink_keeps_the_promises_of_a_sink(check):
    check(GuardedSink(MemorySink(), Breaker("kms", SinkUnavailable)))


@pytest.mark.parametrize("name", SINK_CALLS)
def test_no_call_reaches_a_kms_behind_an_open_breaker(name):
    down = Down(SinkUnavailable("down"))
    sink = GuardedSink(down, Breaker("kms", SinkUnavailable))
    for _ in range(OPENS_AFTER + 2):
        with pytest.raises(SinkUnavailable):
            getattr(sink, name)(*SINK_CALLS[name])
    assert down.calls == [name] * OPENS_AFTER


def test_the_other_site_is_away_when_it_is_silent_and_not_when_it_puts_a_policy_off():
    for error, n_calls in ((PeerSilent("no answer"), OPENS_AFTER), (PeerUnavailable("later"), 9)):
        down = Down(error)
        peer = GuardedPeer(down, Breaker("the other site", PeerUnavailable))
        for _ in range(9):
            with pytest.raises(PeerUnavailable):
                peer.propose("a proposal")
        assert len(down.calls) == n_calls


@pytest.mark.parametrize("error", [RefreshRefused("differs"), PeerUnavailable("502")])
def test_what_the_other_site_says_is_passed_on(error):
    peer = GuardedPeer(Down(error), Breaker("the other site", PeerUnavailable))
    for call in (lambda: peer.agree("p", "digest"), lambda: peer.runs(["r"])):
        with pytest.raises(type(error), match=str(error)):
            call()


def test_few_calls_at_a_time_reach_the_other_site(wait_for):
    go, inside = threading.Event(), []

    class Slow:
        def runs(self, run_ids):
            inside.append(1)
            go.wait(10)
            return {}

    peer = GuardedPeer(Slow(), Breaker("the other site", PeerUnavailable))
    threads = [threading.Thread(target=peer.runs, args=(["r"],)) for _ in range(3 * MOST_CALLS)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(inside) == MOST_CALLS)
    time.sleep(0.1)
    assert len(inside) == MOST_CALLS
    go.set()
    for thread in threads:
        thread.join(5)
    assert len(inside) == 3 * MOST_CALLS
