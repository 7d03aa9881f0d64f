"""What a `PolicyStore` promises, together with the `RefreshStore` beside it."""

from keyferry.store.checks.examples import SiteStore, TwoSites, expect, refuses
from keyferry.store.checks.refreshes import PATHS, a_run
from qkd_core.errors import Fenced
from qkd_core.types.figures import PolicyFigures
from qkd_core.types.ids import Generation
from qkd_core.types.keys import RefreshState
from qkd_core.types.refresh import PolicyState

NAME = "database"


def a_new_policy_is_neither_due_nor_paused(sites: TwoSites) -> None:
    policies = sites.a.policies
    expect(policies.state(NAME) == PolicyState(), "nothing is known")
    expect(policies.states() == {}, "of any")


def each_slot_makes_a_policy_due_once(sites: TwoSites) -> None:
    policies = sites.a.policies
    policies.make_due(NAME, 60.0, "schedule")
    expect(policies.state(NAME) == PolicyState(due=True, last_slot=60.0), "due")
    policies.pass_over(NAME, "a run is under way")
    expect(policies.state(NAME) == PolicyState(last_slot=60.0), "passed over")
    for slot in (60.0, 59.0):
        policies.make_due(NAME, slot, "schedule")
        expect(not policies.state(NAME).due, "a slot that was seen to is not due again")
    policies.make_due(NAME, 120.0, "schedule")
    expect(policies.state(NAME) == PolicyState(due=True, last_slot=120.0), "the next one is")
    policies.pass_slot_over(NAME, 180.0, "a run is under way")
    expect(policies.state(NAME) == PolicyState(due=True, last_slot=180.0), "what is due stays due")
    policies.pass_over(NAME, "test")
    policies.pass_slot_over(NAME, 240.0, "a run is under way")
    expect(policies.state(NAME) == PolicyState(last_slot=240.0), "and no mark is set")
    policies.anchor(NAME, 30.0)
    expect(policies.state(NAME) == PolicyState(last_slot=30.0), "counted from there on")


def an_order_makes_a_policy_due_and_moves_no_slot(sites: TwoSites) -> None:
    policies = sites.a.policies
    policies.make_due(NAME, 60.0, "schedule")
    policies.pass_over(NAME, "test")
    policies.make_due(NAME, None, "uid 0")
    expect(policies.state(NAME) == PolicyState(due=True, last_slot=60.0), "due, no slot")


def the_run_that_begins_takes_the_due_mark(sites: TwoSites) -> None:
    policies = sites.a.policies
    for name in (NAME, "other"):
        policies.make_due(name, 60.0, "schedule")
    sites.a.refreshes.begin(a_run())
    expect(not policies.state(NAME).due, "in the same transition")
    expect(policies.state("other").due, "and of this policy only")
    sites.a.refreshes.begin(a_run())
    policies.make_due(NAME, 120.0, "schedule")
    expect(policies.state(NAME).due, "due again at the next slot")


def pausing_is_remembered_with_its_author(sites: TwoSites) -> None:
    policies = sites.a.policies
    policies.pause(NAME, "uid 0")
    policies.pause(NAME, "uid 1")
    expect(policies.state(NAME).paused_by == "uid 0", "the first one")
    policies.resume(NAME, "uid 1")
    policies.resume(NAME, "uid 1")
    expect(policies.state(NAME) == PolicyState(), "and ends")


def lateness_is_counted_from_its_first_cause(sites: TwoSites) -> None:
    policies = sites.a.policies
    policies.note_late(NAME, "sealed")
    first = policies.state(NAME)
    expect(first.late_since and first.trouble == "sealed", "since when and why")
    policies.note_late(NAME, "down")
    second = policies.state(NAME)
    expect(second.late_since == first.late_since and second.trouble == "down", "the newest cause")
    policies.note_on_time(NAME)
    policies.note_on_time(NAME)
    expect(policies.state(NAME) == PolicyState(), "until nothing holds it up")
    expect(sites.a.figures().alarms == {}, "without an alarm")


def a_refusal_is_an_alarm_once(sites: TwoSites) -> None:
    policies = sites.a.policies
    for _ in range(2):
        policies.note_refused(NAME, "the files differ")
    state = policies.state(NAME)
    expect(state == PolicyState(trouble="the files differ"), "not late: refused")
    expect(sites.a.figures().alarms == {"refresh_refused": 1}, "one alarm")
    policies.note_alarm("generation_too_old", NAME, "generation 1 is 3 days old")
    expect(sites.a.figures().alarms["generation_too_old"] == 1, "of another kind")


def only_the_last_leader_writes(first: SiteStore, second: SiteStore) -> None:
    """Two processes of one site."""
    number = first.policies.lead("first")
    first.refreshes.begin(a_run())
    expect(second.policies.lead("second") > number, "a higher number")
    for write in (
        lambda: first.refreshes.move("database 1", RefreshState.PREPARED),
        lambda: first.refreshes.begin(a_run(2)),
        lambda: first.policies.make_due(NAME, 60.0, "schedule"),
        lambda: first.policies.note_late(NAME, "sealed"),
    ):
        refuses(Fenced, write)
    second.refreshes.move("database 1", RefreshState.PREPARED)
    expect(first.policies.state(NAME) == PolicyState(), "nothing was written")


def a_run_that_is_done_is_told_once(sites: TwoSites) -> None:
    runs, policies = sites.a.refreshes, sites.a.policies
    for number in (1, 2, 3):
        runs.begin(a_run(number))
        for state in PATHS[RefreshState.ABORTED if number == 2 else RefreshState.DONE]:
            runs.move(f"database {number}", state)
    events = policies.events(10)
    expect([event.generation for event in events] == [1, 3], "those that are done, in order")
    expect(events[0].policy == NAME and events[0].key_id == "key", "by name")
    expect(len({event.event_id for event in events}) == len(events), "each its own")
    policies.event_tried(events[0].event_id)
    expect([event.tries for event in policies.events(10)] == [1, 0], "tries are counted")
    policies.event_ended(events[0].event_id, None)
    policies.event_ended(events[0].event_id, None)
    expect([event.generation for event in policies.events(1)] == [3], "what was told is gone")
    policies.event_ended(events[1].event_id, "gone")
    expect(policies.events(10) == (), "given up")
    alarms = sites.a.figures().alarms
    expect(alarms.get("consumer_not_told") == 1, "which is an alarm")


def figures_tell_how_each_policy_stands(sites: TwoSites) -> None:
    runs, policies = sites.a.refreshes, sites.a.policies
    for number in (1, 2, 3):
        runs.begin(a_run(number))
        for state in PATHS[RefreshState.COMMITTED if number == 3 else RefreshState.DONE]:
            runs.move(f"database {number}", state)
    policies.pause("held", "uid 0")
    policies.note_late("slow", "sealed")
    policies.note_refused("wrong", "differs")
    figures = sites.a.figures()
    told = figures.policies
    expect(list(told) == [NAME, "held", "slow", "wrong"], "those with runs, and those known of")
    expect(told[NAME].generation == 2 and told[NAME].under_way == "committed", "newest done")
    expect(told[NAME].newest == "committed", "of the highest generation")
    expect(told[NAME].active_since == runs.done(NAME)[-1].changed_at, "since it was done")
    expect(told["held"] == PolicyFigures(paused=True), "never ran")
    expect(told["slow"] == PolicyFigures(late=True), "held up")
    expect(told["wrong"] == PolicyFigures(refused=True), "not late: people must act")
    counted = {(NAME, "done"): 2, (NAME, "committed"): 1}
    expect(figures.refreshes == counted, "a run counts in its own state only")
    runs.move("database 1", RefreshState.RETIRED)
    runs.move("database 3", RefreshState.BLOCKED, reason="denied")
    runs.begin(a_run(1, policy="vain"))
    runs.move("vain 1", RefreshState.ABORTED, reason="denied")
    figures = sites.a.figures()
    expect(figures.policies[NAME].under_way == "blocked", "it is not over")
    expect(figures.policies["vain"] == PolicyFigures(newest="aborted"), "nothing came of it")
    counted = {(NAME, state): 1 for state in ("done", "retired", "blocked")}
    counted |= {("vain", "aborted"): 1}
    expect(figures.refreshes == counted, "counts follow each move")


def an_age_is_an_alarm_once_for_each_generation(sites: TwoSites) -> None:
    policies = sites.a.policies
    for number in (1, 1, 2, 1, 2):
        policies.note_too_old(NAME, Generation(number), "3 days")
    policies.note_too_old("other", Generation(1), "3 days")
    expect(sites.a.figures().alarms == {"generation_too_old": 3}, "generations 1, 2 and another 1")
    expect(policies.state(NAME) == PolicyState(), "nothing else")


POLICY_CHECKS = [
    a_new_policy_is_neither_due_nor_paused,
    each_slot_makes_a_policy_due_once,
    an_order_makes_a_policy_due_and_moves_no_slot,
    the_run_that_begins_takes_the_due_mark,
    pausing_is_remembered_with_its_author,
    lateness_is_counted_from_its_first_cause,
    a_refusal_is_an_alarm_once,
    a_run_that_is_done_is_told_once,
    figures_tell_how_each_policy_stands,
    an_age_is_an_alarm_once_for_each_generation,
]
