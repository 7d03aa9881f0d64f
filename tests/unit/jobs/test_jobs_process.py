"""Whole jobs processes of two sites, with stores and sinks in memory."""

import socket
import threading
import time

import pytest

from qkd_core.errors import Fenced, SinkUnavailable
from qkd_core.types.ids import Side
from qkd_core.types.keys import RefreshState
from qkd_kms_adapters.memory import MemorySink

SILENT_S = 3.0


class SilentSink(MemorySink):
    """Speaks to a server that takes connections and answers nothing."""

    def __init__(self, port):
        super().__init__()
        self.port, self.tries, self.heals = port, 0, threading.Event()

    def state(self):
        if not self.heals.is_set():
            self.tries += 1
            with socket.create_connection(("127.0.0.1", self.port), SILENT_S) as connection:
                try:
                    connection.recv(1)
                except TimeoutError:
                    raise SinkUnavailable(f"no answer in {SILENT_S} s") from None
        return super().state()


@pytest.fixture
def black_hole():
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield server.getsockname()[1]


def starts(*sites):
    return [site.start() for site in sites]


def late(site):
    states = site.store.policies.states()
    return {name for name, state in states.items() if state.late_since is not None}


def test_both_sites_get_each_key_and_the_other_site_is_asked_for_all_at_once(two_sites, wait_for):
    names = [f"p{number}" for number in range(40)]
    a, b = two_sites(**{name: {} for name in names})
    starts(a, b)
    wait_for(lambda: all(site.is_done(name) for site in (a, b) for name in names))
    for name in names:
        assert a.sinks[name].keys == b.sinks[name].keys != ()
        assert a.sinks[name].agreed == b.sinks[name].agreed == 1
    looks = [n for what, n in b.peer.calls if what == "runs"]
    assert max(looks) > 10, "the follower only ever looks"
    assert len(looks) < 4 * len(names)  # one of them before the key is written


def oldest_is_retired(site):
    runs = site.runs("often")
    return len(runs) >= 2 and runs[-1].state is RefreshState.RETIRED


def test_either_site_initiates(two_sites, wait_for):
    a, b = two_sites(ours={}, theirs={"initiator": Side.B})
    starts(a, b)
    wait_for(lambda: all(site.is_done(name) for site in (a, b) for name in ("ours", "theirs")))


def test_due_times_come_and_earlier_generations_are_retired(two_sites, wait_for, monkeypatch):
    monkeypatch.setattr("keyferry.jobs.process.GRACE_S", 0.5)
    a, b = two_sites(often={"interval_s": 1.0})
    starts(a, b)
    wait_for(lambda: all(oldest_is_retired(site) for site in (a, b)))
    generations = [run.generation for run in a.runs("often")]
    assert generations == list(range(len(generations), 0, -1))


def test_a_silent_kms_costs_the_policies_of_others_nothing(two_sites, wait_for, black_hole):
    dead = {f"dead{number}": {"interval_s": 1.0} for number in range(30)}
    live = {f"live{number}": {} for number in range(10)}
    took = {}
    for case in (live, dead | live):
        a, b = two_sites(**case)
        for name in case.keys() & dead:
            a.sinks[name], a.servers[name] = SilentSink(black_hole), "dead"
        began = time.monotonic()
        starts(a, b)
        wait_for(lambda a=a, b=b: all(site.is_done(name) for site in (a, b) for name in live))
        took[len(case)] = time.monotonic() - began
        for name in live:
            a.store.policies.make_due(name, None, "test")
        began = time.monotonic()
        wait_for(lambda a=a, b=b: all(site.is_done(name, 2) for site in (a, b) for name in live))
        took[len(case)] += time.monotonic() - began
        if case is not live:
            wait_for(lambda a=a: late(a) == dead.keys())
            tries = sum(a.sinks[name].tries for name in dead)
            for name in dead:
                a.sinks[name].heals.set()
            wait_for(
                lambda a=a, b=b: all(a.is_done(name) or len(a.runs(name)) > 1 for name in dead)
            )
            wait_for(lambda a=a: late(a) == set())
            assert tries <= 9, "the others were late without a try"
        for site in (a, b):
            site.end()
    print(f"20 live runs: {took[10]:.2f} s alone, {took[40]:.2f} s beside 30 of a silent KMS")
    # Who is due is read each second, so that the two differ by up to two seconds anyway.
    assert took[40] < took[10] + SILENT_S - 0.5


def test_the_other_site_away_holds_up_and_breaks_nothing(two_sites, wait_for):
    names = [f"p{number}" for number in range(20)]
    a, b = two_sites(**{name: {} for name in names})
    a.peer.cut = True
    starts(a, b)
    wait_for(lambda: all(a.store.policies.state(name).late_since for name in names))
    calls = len(a.peer.calls)
    time.sleep(1.0)
    assert len(a.peer.calls) < calls + 6, "one try for all, at a slowing pace"
    a.peer.cut = False
    wait_for(lambda: all(site.is_done(name) for site in (a, b) for name in names))
    wait_for(lambda: not any(state.trouble for state in a.store.policies.states().values()))
    assert a.store._site.alarms == {}


def test_runs_that_wait_are_late_while_the_other_site_is_away(two_sites, wait_for):
    a, b = two_sites(p={})
    b.sinks["p"] = sink = SilentSink(0)
    sink.prepare = lambda key, generation: sink.fail()

    def fail():
        raise SinkUnavailable("sealed")

    sink.fail = fail
    starts(a, b)
    wait_for(lambda: b.store.policies.state("p").trouble == "sealed")
    a.peer.cut = True
    wait_for(lambda: a.store.policies.state("p").late_since is not None)
    a.peer.cut, sink.fail = False, lambda: None
    wait_for(lambda: a.is_done("p") and b.is_done("p"))
    wait_for(lambda: not a.store.policies.state("p").trouble)
    assert b.store.policies.state("p").trouble is None


def test_a_pause_stops_new_runs_and_a_run_under_way_ends(two_sites, wait_for):
    a, b = two_sites(p={"interval_s": 1.0})
    a.store.policies.pause("p", "uid 0")
    starts(a, b)
    wait_for(lambda: len(a.audited("refresh_passed_over")) >= 2)
    assert a.runs("p") == []
    assert {fields["reason"] for fields in a.audited("refresh_passed_over")} == {"paused by uid 0"}
    a.store.policies.resume("p", "uid 0")
    wait_for(lambda: a.is_done("p") and b.is_done("p"))


def test_a_policy_that_differs_at_the_other_site_is_refused_with_one_alarm(two_sites, wait_for):
    a, b = two_sites(p={"interval_s": 1.0})
    b.policies[0] = type(b.policies[0])(
        name="p", kmes=b.policies[0].kmes, n_bits=128, interval_s=1.0, initiator=Side.A
    )
    a.connect(b)
    starts(a, b)
    wait_for(lambda: len(a.audited("refresh_passed_over")) >= 2)
    assert a.store._site.alarms == {"refresh_refused": 1}
    assert "differs between the two site files" in a.store.policies.state("p").trouble
    assert a.runs("p") == []


def test_a_clock_that_is_set_makes_due_what_is_due_and_stops_nothing(two_sites, wait_for):
    a, b = two_sites(hourly={}, every_second={"interval_s": 1.0})
    starts(a, b)
    wait_for(lambda: a.is_done("hourly") and a.is_done("every_second"))
    for hours, generation in ((1, 2), (87660, 3), (0, 3)):
        a.clock.step_s = 3600.0 * hours
        seen = a.runs("every_second")[0].generation
        wait_for(lambda seen=seen: a.runs("every_second")[0].generation > seen)
        wait_for(lambda generation=generation: a.is_done("hourly", generation))
    # The run that was waited for may have been due before the process saw the clock go back.
    wait_for(lambda: a.store.policies.state("hourly").last_slot < time.time())
    assert a.runs("hourly")[0].generation == 3, "what counts from now on again is not due for it"


def test_an_old_generation_is_an_alarm_at_the_site_that_says_how_old_it_may_be(two_sites, wait_for):
    a, b = two_sites(p={"interval_s": 1e7})
    a.max_age_s["p"] = 100.0
    starts(a, b)
    wait_for(lambda: a.is_done("p") and b.is_done("p"))
    a.clock.step_s = 101.0
    wait_for(lambda: a.audited("generation_too_old"))
    assert "max_age_s is 100" in a.audited("generation_too_old")[0]["detail"]
    assert b.audited("generation_too_old") == []


def test_a_process_that_lost_the_lead_ends_and_writes_nothing_more(two_sites, wait_for):
    a, b = two_sites(p={"interval_s": 1.0})
    starts(a, b)
    wait_for(lambda: a.is_done("p"))
    a.store._site.fence += 1
    before = a.runs("p"), a.store.policies.states()
    for thread in a.threads:
        thread.join(10)
        assert not thread.is_alive()
    assert isinstance(a.errors[0], Fenced)
    assert (a.runs("p"), a.store.policies.states()) == before


def test_a_second_process_of_the_site_stands_by_until_the_first_ends(two_sites, wait_for):
    a, _ = two_sites()
    (first,) = starts(a)
    assert first.leading.wait(5)
    thread, stop = a.threads.pop(), a.stop
    a.stop = threading.Event()
    (second,) = starts(a)
    assert not second.leading.wait(0.7)
    stop.set()
    assert second.leading.wait(5)
    thread.join(5)
    assert [fields["fence"] for fields in a.audited("lead_taken")] == [1, 2]


def test_keys_are_expired_at_the_time_of_the_clock(two_sites):
    a, _ = two_sites(p={})
    asked = []
    jobs = a.jobs()
    jobs._allocations = type("Keys", (), {"expire": staticmethod(lambda now: asked.append(now))})
    jobs.expire()
    assert asked == [pytest.approx(time.time(), abs=5)]
