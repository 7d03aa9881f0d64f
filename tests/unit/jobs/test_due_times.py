"""What becomes due, what is passed over, and that no slot counts twice."""

import pytest

from keyferry.refresh.due import DueTimes
from keyferry.store.memory import MemoryStore
from qkd_core.errors import PeerUnavailable
from qkd_core.types.ids import Generation, KeyId, KmeId, LinkId, Side
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import RefreshPolicy

YEAR_S = 365.25 * 86400.0


class ManualClock:
    def __init__(self, time):
        self.time = time

    def now(self):
        return self.time


class Refreshed:
    """Stands for Refreshing: whether a run is under way is said by the test."""

    def __init__(self, policy):
        self.policy = policy
        self.run = None

    def under_way(self):
        if isinstance(self.run, Exception):
            raise self.run
        return self.run


class Due:
    """One policy, due every 100 s, and the site's clock."""

    def __init__(self, now=1050.0, jitter_s=0.0, ran_at=None):
        self.clock = ManualClock(now)
        self.store = MemoryStore(
            link_id=LinkId("link"), side=Side.A, kme_id=KmeId("kme-a"), clock=self.clock
        )
        policy = RefreshPolicy(
            name="p",
            kmes=(KmeId("kme-a"), KmeId("kme-b")),
            n_bits=256,
            interval_s=100.0,
            jitter_s=jitter_s,
            initiator=Side.A,
        )
        self.refreshing = Refreshed(policy)
        if ran_at is not None:
            self.clock.time = ran_at
            self.store.refreshes.begin(a_run(1))
            self.clock.time = now
        self.start()

    def start(self):
        store = self.store
        self.due = DueTimes([self.refreshing], store.policies, store.refreshes, self.clock)

    def at(self, now):
        """Whether a look makes the policy due; the mark is taken, as by a run that begins."""
        self.clock.time = now
        news = self.due.news()
        self.due.look("p")
        assert self.due.news() == [], "one look is enough"
        is_due = self.state.due
        if is_due:
            assert news == ["p"]
            self.store.policies.pass_over("p", "taken")
        return is_due

    @property
    def state(self):
        return self.store.policies.state("p")

    def passed_over(self):
        return [
            event.fields["reason"]
            for event in self.store._site.events
            if event.action == "refresh_passed_over" and event.fields["reason"] != "taken"
        ]


def a_run(generation, state=RefreshState.DRAWN):
    return RefreshRun(
        run_id=f"run {generation}",
        policy="p",
        generation=Generation(generation),
        key_id=KeyId("key"),
        state=state,
    )


def test_a_policy_that_never_ran_is_due_at_once_and_then_at_its_slots():
    due = Due(1050.0)
    assert [due.at(now) for now in (1050, 1051, 1099.9, 1100, 1101, 1199, 1200)] == [
        *(True, False, False),
        *(True, False, False, True),
    ]


def test_a_policy_that_this_site_did_not_initiate_before_waits_for_the_slot_after_its_last_run():
    assert [Due(1050.0, ran_at=1010.0).at(now) for now in (1050,)] == [False]
    due = Due(1050.0, ran_at=1010.0)
    assert [due.at(now) for now in (1060, 1100, 1150)] == [False, True, False]
    assert Due(1050.0, ran_at=950.0).at(1050.0), "the slot at 1000 was missed"


@pytest.mark.parametrize("missed", [1, 2, 9, 1000])
def test_slots_that_were_missed_are_one_run_at_once(missed):
    due = Due(1050.0)
    due.at(1050.0)
    due.start()
    assert due.at(1060.0 + 100 * missed)
    assert due.state.last_slot == 1000.0 + 100 * missed
    assert not due.at(1099.0 + 100 * missed)


def test_each_slot_counts_once_whoever_looks_and_however_often():
    due, n_due = Due(1000.0), 0
    for now in range(1000, 3000, 7):
        due.start()
        n_due += due.at(float(now))
        n_due += due.at(float(now))
    assert n_due == 20


def test_a_slot_that_meets_a_run_under_way_is_passed_over_and_recorded():
    due = Due(1050.0)
    due.at(1050.0)
    due.refreshing.run = a_run(7, RefreshState.PREPARED)
    assert not due.at(1100.0)
    assert due.passed_over() == ["generation 7 is prepared"]
    due.refreshing.run = None
    assert [due.at(now) for now in (1150.0, 1200.0)] == [False, True]


def test_while_the_key_of_a_blocked_run_cannot_be_seen_slots_are_passed_over():
    due = Due(1050.0)
    due.at(1050.0)
    due.refreshing.run = PeerUnavailable("the peer has not answered yet")
    assert not due.at(1100.0)
    assert due.passed_over() == ["the peer has not answered yet"]


def test_slots_in_a_pause_are_passed_over_and_not_made_up_for():
    due = Due(1050.0)
    due.at(1050.0)
    due.store.policies.pause("p", "uid 0")
    assert [due.at(now) for now in (1100.0, 1200.0, 1250.0)] == [False] * 3
    assert due.passed_over() == ["paused by uid 0"] * 2
    due.store.policies.resume("p", "uid 0")
    assert [due.at(now) for now in (1251.0, 1300.0)] == [False, True]


def test_what_was_due_before_a_pause_or_a_run_stays_due():
    due = Due(1050.0)
    due.at(1050.0)
    due.store.policies.make_due("p", None, "uid 0")
    due.store.policies.pause("p", "uid 0")
    due.refreshing.run = a_run(7, RefreshState.DRAWN)
    due.clock.time = 1100.0
    due.due.look("p")
    assert due.state.due and due.state.last_slot == 1100.0
    assert due.passed_over() == []


@pytest.mark.parametrize("step_s", [-3.0, -45.0, -99.0])
def test_a_step_back_of_less_than_a_period_repeats_no_slot(step_s):
    due = Due(1050.0)
    due.at(1050.0)
    assert due.at(1101.0)
    seen = [due.at(1101.0 + step_s + passed) for passed in range(100)]
    assert sum(seen) == 0 or 1101.0 + step_s + seen.index(True) >= 1200.0
    assert due.at(1200.0)


@pytest.mark.parametrize("step_s", [-3600.0, -10 * YEAR_S])
def test_a_step_back_of_more_than_a_period_counts_from_there(step_s):
    start = 11 * YEAR_S
    due = Due(start)
    due.at(start)
    now = start + step_s + 10
    assert not due.at(now), "nothing is due by the step itself"
    slots = [passed for passed in range(1, 301) if due.at(now + passed)]
    assert len(slots) == 3 and slots[0] <= 100


@pytest.mark.parametrize("step_s", [3600.0, 10 * YEAR_S])
def test_a_step_forward_is_one_run_and_a_wrong_year_stops_nothing(step_s):
    start = 11 * YEAR_S
    due = Due(start)
    due.at(start)
    assert due.at(start + step_s + 10)
    assert not due.at(start + step_s + 20)
    assert not due.at(start + 40), "back again"
    assert sum(due.at(start + 40 + passed) for passed in range(1, 201)) == 2


def test_jitter_puts_each_slot_off_and_none_is_lost_or_doubled():
    due = Due(1000.0, jitter_s=50.0)
    due.at(1000.0)
    slots = []
    for tenths in range(10000, 40000):
        if due.at(tenths / 10):
            slots.append(due.state.last_slot)
            assert slots[-1] <= tenths / 10 <= slots[-1] + 50.1
    assert slots == [1000.0 + 100 * n for n in range(1, 30)]


def test_the_next_moment_is_that_of_the_next_slot():
    assert Due().due.next_moment("p", 1050.0) == 1100.0
    assert Due().due.names == ["p"]
