"""Who is given to a lane at a tick, and for whom the other site is asked."""

from types import SimpleNamespace

import pytest

from keyferry.refresh.breaker import OPENS_AFTER, Breaker
from keyferry.refresh.coordinator import FRESH_S, LOOK_S, PATIENCE_S, Coordinator, Lost, Served
from keyferry.retrying import Backoff
from keyferry.store.memory import MemoryStore
from qkd_core.errors import Fenced, PeerUnavailable, SinkUnavailable
from qkd_core.types.ids import Generation, KeyId, KmeId, LinkId, Side
from qkd_core.types.keys import RefreshRun, RefreshState

S = RefreshState


class Job:
    """Stands for PolicyJob."""

    is_new = is_late = False
    held_by = None
    tried_at = float("-inf")

    def __init__(self, name, clock):
        self.name, self.clock = name, clock
        self.refreshing = SimpleNamespace(initiates=True)
        self.worked, self.late, self.hold = [], [], False

    def may_go(self):
        return not self.hold and (self.held_by is None or self.held_by.may_try())

    def work(self, runs, answers=None):
        self.tried_at = self.clock.time
        self.worked.append(([run.state for run in runs], bool(answers)))

    def be_late(self, error):
        self.late.append(str(error))

    def is_news(self, error):
        return str(error) not in self.late


class Inline:
    """A lane without threads; ``later``: what it was given is done when the test says so."""

    def __init__(self):
        self.later, self.given = False, []

    def submit(self, work):
        self.given.append(work) if self.later else work()

    def of(self, name):
        return self


class Peer:
    def __init__(self):
        self.asked, self.states, self.error = [], {}, None

    def runs(self, run_ids):
        self.asked.append(sorted(run_ids))
        if self.error:
            raise self.error
        return {run_id: a_run(run_id, self.states.get(run_id)) for run_id in run_ids}


class Clock:
    time = 1000.0

    def now(self):
        return self.time


def a_run(name, state=S.DRAWN):
    if state is None:
        return None
    return RefreshRun(
        run_id=name, policy=name, generation=Generation(1), key_id=KeyId(name), state=state
    )


class Bench:
    def __init__(self, *names):
        self.clock, self.peer, self.lane = Clock(), Peer(), Inline()
        self.store = MemoryStore(
            link_id=LinkId("l"), side=Side.A, kme_id=KmeId("kme-a"), clock=self.clock
        )
        self.jobs = {name: Job(name, self.clock) for name in names}
        self.lost = Lost()
        self.coordinator = Coordinator(
            {name: Served(job, self.lane) for name, job in self.jobs.items()},
            self.store.refreshes,
            self.store.policies,
            self.peer,
            self.lane,
            self.lost,
            self.clock.now,
        )

    def tick(self, after_s=0.25):
        self.clock.time += after_s
        self.coordinator.tick()
        worked = {name: job.worked for name, job in self.jobs.items() if job.worked}
        for job in self.jobs.values():
            job.worked = []
        return worked

    def run(self, name, *path):
        self.store.refreshes.begin(a_run(name))
        for state in path:
            self.store.refreshes.move(name, state)


def test_at_the_first_tick_everyone_looks_what_was_left():
    bench = Bench("p", "q")
    bench.jobs["p"].is_new = True
    assert bench.tick() == {"p": [([], False)]}


def test_a_due_policy_is_given_to_its_lane_unless_paused_or_unfinished():
    bench = Bench("free", "paused", "busy", "other", "blocked")
    for name in ("free", "paused", "busy", "blocked", "not in the file"):
        bench.store.policies.make_due(name, None, "test")
    bench.store.policies.pause("paused", "uid 0")
    bench.run("busy", S.PREPARED)
    bench.store.policies.make_due("busy", None, "test")
    bench.run("blocked", S.PREPARED, S.COMMITTED, S.BLOCKED)
    bench.store.policies.make_due("blocked", None, "test")
    bench.peer.states = {"busy": S.DRAWN, "blocked": S.COMMITTED}
    worked = bench.tick()
    assert worked.keys() == {"free", "blocked"}
    assert "blocked" not in bench.tick(), "whether its key is burnt is looked at now and then"
    assert "blocked" in bench.tick(PATIENCE_S)


def test_who_becomes_due_is_known_at_once_when_told_and_soon_otherwise():
    bench = Bench("p")
    assert bench.tick() == {}
    bench.store.policies.make_due("p", None, "test")
    assert bench.tick() == {}
    assert bench.tick(1.0).keys() == {"p"}
    bench.store.policies.pass_over("p", "test")
    bench.tick(1.0)
    bench.store.policies.make_due("p", None, "test")
    bench.coordinator.due_changed()
    assert bench.tick().keys() == {"p"}


def test_the_other_site_is_asked_once_for_all_that_wait_and_who_can_go_on_goes():
    bench = Bench("ready", "waits", "publishes", "unknown there")
    bench.run("ready", S.PREPARED)
    bench.run("waits", S.PREPARED)
    bench.run("publishes", S.PREPARED, S.COMMITTED)
    bench.run("unknown there")
    bench.peer.states = {
        "ready": S.PREPARED,
        "waits": S.DRAWN,
        "publishes": S.PREPARED,
        "unknown there": None,
    }
    worked = bench.tick()
    assert len(bench.peer.asked) == 1
    assert worked["publishes"] == [([S.COMMITTED], False)]
    assert worked["ready"] == [([S.PREPARED], True)]
    assert worked["unknown there"] == [([S.DRAWN], True)]
    assert "waits" not in worked


def test_a_run_that_waits_for_long_is_asked_for_less_often_and_seen_to_now_and_then():
    bench = Bench("p")
    bench.run("p", S.PREPARED)
    bench.peer.states = {"p": S.DRAWN}
    bench.jobs["p"].tried_at = bench.clock.time
    for _ in range(int(FRESH_S / 0.25) - 1):
        bench.tick()
    often = len(bench.peer.asked)
    assert often >= FRESH_S / 0.25 - 2
    worked = [bench.tick() for _ in range(40)]
    assert 40 * 0.25 / LOOK_S - 1 <= len(bench.peer.asked) - often <= 40 * 0.25 / LOOK_S + 2
    assert 1 <= sum("p" in each for each in worked) <= 2


def test_a_busy_policy_is_not_given_twice_nor_asked_for():
    bench = Bench("p")
    bench.run("p", S.PREPARED, S.COMMITTED)
    bench.lane.later = True
    bench.tick()
    bench.tick()
    assert len(bench.lane.given) == 1 and bench.peer.asked == []
    bench.lane.given.pop()()
    bench.tick()
    assert len(bench.lane.given) == 1


def test_a_failed_look_makes_those_late_that_wait_for_it_and_says_it_once():
    bench = Bench("waits", "publishes")
    bench.run("waits", S.PREPARED)
    bench.run("publishes", S.PREPARED, S.COMMITTED)
    bench.peer.error = PeerUnavailable("away")
    bench.tick()
    bench.tick()
    assert bench.jobs["waits"].late == ["away"]
    assert bench.jobs["publishes"].late == []
    bench.peer.error, bench.jobs["waits"].is_late = None, True
    bench.peer.states = {"waits": S.DRAWN, "publishes": S.PREPARED}
    assert "waits" in bench.tick(), "it is late no more"


def open_breaker(clock):
    breaker = Breaker("kms", SinkUnavailable, Backoff(clock.now, lambda: 0.5))
    for _ in range(OPENS_AFTER):
        with pytest.raises(SinkUnavailable), breaker.around():
            raise SinkUnavailable("down")
    return breaker


def test_of_those_behind_an_open_breaker_one_at_a_time_tries_each_in_turn():
    names = [f"p{number}" for number in range(5)]
    bench = Bench(*names)
    breaker = open_breaker(bench.clock)
    for name in names:
        bench.run(name, S.PREPARED, S.COMMITTED)
        bench.jobs[name].held_by = breaker
    assert bench.tick(0.01) == {}
    turns = [bench.tick(60.0) for _ in range(10)]
    assert [len(turn) for turn in turns] == [1] * 10
    assert {name for turn in turns[:5] for name in turn} == set(names)


def test_what_an_operator_gave_up_at_the_other_site_does_not_wait_for_the_kms():
    bench = Bench("p")
    bench.run("p", S.PREPARED, S.COMMITTED)
    bench.jobs["p"].hold = True
    bench.peer.states = {"p": S.COMMITTED}
    assert bench.tick() == {}
    bench.peer.states = {"p": S.SUPERSEDED}
    assert bench.tick() == {"p": [([S.COMMITTED], True)]}


def test_nothing_is_done_any_more_once_the_lead_is_lost():
    bench = Bench("p", "q")
    for name in ("p", "q"):
        bench.run(name, S.PREPARED, S.COMMITTED)

    def fenced(runs, answers=None):
        raise Fenced("another one leads")

    bench.jobs["p"].tried_at = -1.0
    bench.jobs["q"].tried_at = 0.0
    bench.jobs["p"].work = fenced
    assert bench.tick() == {}
    assert bench.lost.event.is_set() and str(bench.lost.error) == "another one leads"
