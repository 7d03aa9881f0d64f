"""One policy's job: how far it goes, what it waits for, what it says."""

import pytest

from keyferry.refresh.breaker import OPENS_AFTER, Breaker
from keyferry.refresh.policy_job import MOST_STEPS, PolicyJob, pace_of
from keyferry.retrying import FIRST_S, LONGEST_S, Backoff
from keyferry.store.memory import MemoryStore
from qkd_core.errors import (
    AuditUnavailable,
    Fenced,
    KeysExhausted,
    MoveRefused,
    PeerUnavailable,
    PeerViolation,
    RefreshRefused,
    RolledBack,
    SinkRejected,
    SinkUnavailable,
)
from qkd_core.types.ids import Generation, KeyId, KmeId, LinkId, Side
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import PolicyState


class Policy:
    name = "p"
    interval_s = 3600.0
    grace_s = 100.0


class Scripted:
    """Stands for Refreshing: what each call does is listed beforehand."""

    policy = Policy()
    initiates = True

    def __init__(self):
        self.steps, self.begins, self.retires = [], [], []
        self.stepped, self.begun, self.retired, self.forgotten = [], 0, 0, 0
        self.busy = None

    def forget_given_up(self):
        self.forgotten += 1

    def under_way(self):
        return self.busy

    def begin(self):
        self.begun += 1
        return self._next(self.begins, True)

    def step(self, run, answers):
        self.stepped.append((run.run_id, dict(answers)))
        return self._next(self.steps, False)

    def retire(self):
        self.retired += 1
        return self._next(self.retires, False)

    def _next(self, script, otherwise):
        outcome = script.pop(0) if script else otherwise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Clock:
    time = 1000.0

    def now(self):
        return self.time


class Bench:
    def __init__(self):
        self.clock = Clock()
        self.store = MemoryStore(
            link_id=LinkId("link"), side=Side.A, kme_id=KmeId("kme-a"), clock=self.clock
        )
        self.script = Scripted()
        self.kms = Breaker("kms", SinkUnavailable, self.pace())
        self.peer = Breaker("the other site", PeerUnavailable, self.pace())
        self.job = self.start()

    def pace(self):
        return Backoff(self.clock.now, lambda: 0.999)

    def start(self):
        store = self.store
        self.job = PolicyJob(
            self.script,
            store.refreshes,
            store.policies,
            {SinkUnavailable: self.kms, PeerUnavailable: self.peer},
            store.policies.state("p"),
            self.clock.now,
        )
        return self.job

    @property
    def state(self):
        return self.store.policies.state("p")

    def alarms(self):
        return dict(self.store._site.alarms)

    def make_due(self):
        self.store.policies.make_due("p", None, "uid 0")

    def run(self, generation=1):
        run = RefreshRun(
            run_id=f"run {generation}",
            policy="p",
            generation=Generation(generation),
            key_id=KeyId("key"),
            state=RefreshState.DRAWN,
        )
        self.store.refreshes.begin(run)
        return run


@pytest.fixture
def bench():
    return Bench()


def test_what_the_process_before_left_is_picked_up_once(bench):
    assert bench.job.is_new
    bench.job.work(())
    bench.job.work(())
    assert not bench.job.is_new and bench.script.forgotten == 1


def test_a_run_goes_as_far_as_it_can_in_one_go_but_not_for_ever(bench):
    run = bench.run()
    bench.script.steps = [True, True, False, True]
    bench.job.work((run,), {run.run_id: None})
    assert bench.script.stepped == [("run 1", {"run 1": None}), ("run 1", {}), ("run 1", {})]
    bench.script.steps = [True] * 100
    bench.job.work((run,))
    assert len(bench.script.steps) == 100 - MOST_STEPS


def test_answers_of_before_a_move_are_forgotten(bench):
    run = bench.run()
    bench.store.refreshes.move("run 1", RefreshState.PREPARED)
    bench.job.work((run,), {run.run_id: None})
    assert bench.script.stepped == [("run 1", {})]


def test_a_due_policy_begins_unless_it_is_paused_or_a_run_is_under_way(bench):
    bench.job.work(())
    assert bench.script.begun == 0
    bench.make_due()
    bench.script.busy = object()
    bench.job.work(())
    assert bench.script.begun == 0 and bench.state.due
    bench.script.busy = None
    bench.store.policies.pause("p", "uid 0")
    bench.job.work(())
    assert bench.script.begun == 0 and bench.state.due
    bench.store.policies.resume("p", "uid 0")
    bench.job.work(())
    assert bench.script.begun == 1


@pytest.mark.parametrize(
    "failure",
    [
        KeysExhausted("empty", 5),
        PeerUnavailable("away"),
        PeerViolation("odd"),
        RolledBack("old"),
        SinkUnavailable("sealed"),
    ],
)
def test_a_passing_failure_waits_is_late_and_what_was_due_stays_due(bench, failure, caplog):
    bench.make_due()
    bench.script.begins = [failure, failure]
    bench.job.work(())
    assert bench.state == PolicyState(due=True, late_since=1000.0, trouble=str(failure))
    assert not bench.job.may_go() and bench.job.is_late
    bench.clock.time += FIRST_S
    assert bench.job.may_go()
    bench.job.work(())
    assert caplog.text.count("is late") == 1, "said once"
    bench.job.work(())
    assert (bench.state.late_since, bench.state.trouble) == (None, None)
    assert bench.alarms() == {}


def test_a_policy_that_was_late_before_a_restart_is_on_time_when_it_goes_on(bench):
    bench.store.policies.note_late("p", "sealed")
    run = bench.run()
    bench.start().work((run,))
    assert bench.state.trouble is None


@pytest.mark.parametrize("refusal", [RefreshRefused("differs"), SinkRejected("denied")])
def test_a_refusal_is_an_alarm_once_and_waits_for_the_next_due_time(bench, refusal):
    for _ in range(2):
        bench.make_due()
        bench.script.begins = [refusal]
        bench.job.work(())
        assert bench.state == PolicyState(trouble=str(refusal))
        bench.job.work(())
        assert bench.state.trouble == str(refusal), "until a run begins"
    assert bench.alarms() == {"refresh_refused": 1}
    bench.start()
    bench.job.work(())
    assert bench.state.trouble == str(refusal), "also after a restart"
    bench.make_due()
    bench.job.work(())
    assert bench.state.trouble is None


def test_a_store_that_takes_nothing_is_no_fault_of_the_policy(bench):
    bench.make_due()
    bench.script.begins = [AuditUnavailable("full")]
    bench.job.work(())
    assert bench.state == PolicyState(due=True)
    assert not bench.job.may_go()


def test_a_run_that_was_moved_by_somebody_else_is_looked_at_again(bench):
    run = bench.run()
    bench.script.steps = [MoveRefused("it is done")]
    bench.job.work((run,))
    assert bench.job.may_go() and bench.state == PolicyState()


def test_whoever_lost_the_lead_is_told_so(bench):
    run = bench.run()
    bench.script.steps = [Fenced("another one leads")]
    with pytest.raises(Fenced):
        bench.job.work((run,))


def test_a_defect_is_logged_and_slows_its_own_policy_down(bench, caplog):
    run = bench.run()
    bench.script.steps = [ZeroDivisionError("a defect")]
    bench.job.work((run,))
    assert "this should not happen" in caplog.text and "a defect" in caplog.text
    assert not bench.job.may_go()
    assert bench.state.trouble == "ZeroDivisionError: see the log"
    assert bench.alarms() == {"refresh_refused": 1}


@pytest.mark.parametrize("initiates", [True, False])
def test_what_was_superseded_is_replaced_at_once_by_the_site_that_initiates(bench, initiates):
    run = bench.run()
    bench.script.initiates = initiates
    for state in (RefreshState.PREPARED, RefreshState.COMMITTED, RefreshState.SUPERSEDED):
        bench.store.refreshes.move(run.run_id, state)
    bench.script.steps, bench.script.busy = [True], run
    bench.job.work((run,))
    assert bench.state.due is initiates


def open_up(breaker, error):
    for _ in range(OPENS_AFTER):
        with pytest.raises(type(error)), breaker.around():
            raise error


def test_behind_an_open_breaker_a_policy_waits_for_the_breaker_alone(bench):
    run = bench.run()
    open_up(bench.kms, SinkUnavailable("down"))
    bench.script.steps = [SinkUnavailable("kv one: down"), SinkUnavailable("kv two: down")]
    bench.job.work((run,))
    assert bench.job.held_by is bench.kms and not bench.job.may_go()
    assert bench.state.trouble == bench.kms.trouble, "the same for all that it holds up"
    assert not bench.job.is_news(SinkUnavailable("something else"))
    bench.clock.time += FIRST_S
    assert bench.job.may_go(), "somebody may try"
    with bench.kms.around():
        pass
    assert bench.job.held_by is None
    assert bench.job.may_go(), "at once, whatever it waited before"


def test_late_by_a_look_at_the_other_site_that_failed(bench):
    bench.job.be_late(PeerUnavailable("away"))
    assert bench.state.trouble == "away"
    assert not bench.job.is_news(PeerUnavailable("away"))
    open_up(bench.peer, PeerUnavailable("away"))
    assert bench.job.is_news(PeerUnavailable("away"))
    bench.job.be_late(PeerUnavailable("away"))
    assert bench.job.held_by is bench.peer and bench.state.trouble == bench.peer.trouble


def test_an_earlier_generation_that_cannot_be_retired_is_told_and_tried_later(bench):
    bench.script.retires = [SinkUnavailable("down"), SinkRejected("denied")]
    bench.job.retire()
    bench.job.retire()
    assert bench.script.retired == 1 and bench.alarms() == {}
    bench.clock.time += LONGEST_S
    bench.job.retire()
    assert bench.alarms() == {"refresh_not_retired": 1}
    assert bench.state == PolicyState(), "the policy itself goes on"


def test_a_long_grace_is_not_looked_at_all_the_time(bench):
    for _ in range(100):
        bench.job.retire()
        bench.clock.time += 1.0
    assert bench.script.retired == 20


@pytest.mark.parametrize(("interval_s", "longest_s"), [(10, 5), (1, 2), (3600, LONGEST_S)])
def test_a_policy_never_waits_longer_than_half_its_interval_or_a_minute(interval_s, longest_s):
    pace = pace_of(interval_s, lambda: 0.0)
    waits = [pace.failed() for _ in range(20)]
    assert longest_s / 2 <= max(waits) <= longest_s
