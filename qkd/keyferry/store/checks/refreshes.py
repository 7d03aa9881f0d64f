"""What a `RefreshStore` promises."""

from dataclasses import replace

from keyferry.store.checks.examples import LATER, TwoSites, a_block, a_request, expect, refuses
from qkd_core.errors import KeyNotFound, MoveRefused
from qkd_core.keys.refresh import MOVES
from qkd_core.types.ids import Generation, KeyId
from qkd_core.types.keys import RefreshRun, RefreshState

_PUBLISHED = [RefreshState.PREPARED, RefreshState.COMMITTED, RefreshState.PUBLISHED]
PATHS = {
    RefreshState.DRAWN: [],
    RefreshState.PREPARED: [RefreshState.PREPARED],
    RefreshState.COMMITTED: [RefreshState.PREPARED, RefreshState.COMMITTED],
    RefreshState.PUBLISHED: _PUBLISHED,
    RefreshState.DONE: [*_PUBLISHED, RefreshState.DONE],
    RefreshState.RETIRED: [*_PUBLISHED, RefreshState.DONE, RefreshState.RETIRED],
    RefreshState.ABORTED: [RefreshState.ABORTED],
    RefreshState.BLOCKED: [RefreshState.PREPARED, RefreshState.COMMITTED, RefreshState.BLOCKED],
    RefreshState.SUPERSEDED: [
        RefreshState.PREPARED,
        RefreshState.COMMITTED,
        RefreshState.SUPERSEDED,
    ],
}


ENDS_BADLY = (RefreshState.BLOCKED, RefreshState.ABORTED)


def a_run(number: int = 1, policy: str = "database", key_id: str = "key") -> RefreshRun:
    return RefreshRun(
        run_id=f"{policy} {number}",
        policy=policy,
        generation=Generation(number),
        key_id=KeyId(key_id),
        state=RefreshState.DRAWN,
    )


def a_run_is_recorded_once(sites: TwoSites) -> None:
    runs = sites.a.refreshes
    expect(runs.run("database 1") is None, "unknown at first")
    runs.begin(a_run())
    expect(runs.run("database 1") == a_run(), "then known")
    runs.move("database 1", RefreshState.PREPARED)
    runs.begin(a_run())
    found = runs.run("database 1")
    expect(found and found.state is RefreshState.PREPARED, "beginning again moves nothing back")


def another_run_does_not_take_its_place(sites: TwoSites) -> None:
    runs = sites.a.refreshes
    runs.begin(a_run())
    for other in (
        replace(a_run(), run_id="other"),
        replace(a_run(), generation=Generation(2)),
        replace(a_run(), key_id=KeyId("other")),
        replace(a_run(2), state=RefreshState.COMMITTED),
    ):
        refuses(ValueError, runs.begin, other)
    runs.begin(a_run(policy="other"))


def only_the_moves_of_the_state_machine_are_made(sites: TwoSites) -> None:
    runs = sites.a.refreshes
    refuses(ValueError, lambda: runs.move("unknown", RefreshState.PREPARED))
    number = 0
    for before, path in PATHS.items():
        for after in RefreshState:
            number += 1
            run = a_run(number)
            runs.begin(run)
            for state in path:
                runs.move(run.run_id, state)
            if after in MOVES[before]:
                expect(runs.move(run.run_id, after).state is after, "allowed")
            else:
                refuses(ValueError, runs.move, run.run_id, after)


def a_move_may_depend_on_what_was_seen(sites: TwoSites) -> None:
    runs = sites.a.refreshes
    runs.begin(a_run())
    for state in _PUBLISHED[:-1]:
        seen = runs.move("database 1", state)
    runs.move("database 1", RefreshState.PUBLISHED, native_version=7)
    refuses(
        MoveRefused,
        lambda: runs.move("database 1", RefreshState.SUPERSEDED, only_if=seen),
    )
    found = runs.run("database 1")
    expect(found and found.state is RefreshState.PUBLISHED, "nothing is changed")
    moved = runs.move("database 1", RefreshState.SUPERSEDED, only_if=found)
    expect(moved.state is RefreshState.SUPERSEDED, "allowed while it is as it was")


def a_move_keeps_what_it_is_told(sites: TwoSites) -> None:
    runs = sites.a.refreshes
    runs.begin(a_run())
    runs.move("database 1", RefreshState.PREPARED)
    runs.move("database 1", RefreshState.COMMITTED)
    runs.move("database 1", RefreshState.PUBLISHED, native_version=7)
    blocked = runs.move("database 1", RefreshState.BLOCKED, reason="denied")
    expect((blocked.native_version, blocked.reason) == (7, "denied"), "both are kept")
    expect(runs.run("database 1") == blocked, "and stored")


def unfinished_runs_are_listed_oldest_first(sites: TwoSites) -> None:
    runs = sites.a.refreshes
    for number in (3, 1, 2):
        runs.begin(a_run(number))
    runs.move("database 1", RefreshState.ABORTED)
    expect([run.generation for run in runs.unfinished()] == [3, 2], "without the aborted one")
    newest = runs.newest("database")
    expect(newest and newest.generation == 3, "the highest generation")
    expect(runs.newest("other") is None, "none of another policy")
    counts = sites.a.figures().refreshes
    expect(counts == {("database", "drawn"): 2, ("database", "aborted"): 1}, "counted by state")


def a_key_of_a_run_under_way_does_not_expire(sites: TwoSites) -> None:
    sites.share(a_block(1))
    keys = sites.a.allocations.hold(a_request(2), LATER)
    for number, key in enumerate(keys, start=1):
        sites.a.refreshes.begin(a_run(number, key_id=key.key_id))
    sites.a.refreshes.move("database 2", RefreshState.ABORTED)
    expect(sites.a.allocations.expire(LATER) == 1, "the aborted run's key only")
    sites.a.allocations.read_held(keys[0].key_id)
    refuses(KeyNotFound, lambda: sites.a.allocations.read_held(keys[1].key_id))


def every_move_is_a_step_with_its_time(sites: TwoSites) -> None:
    runs = sites.a.refreshes
    runs.begin(a_run())
    for state in PATHS[RefreshState.BLOCKED]:
        runs.move("database 1", state, reason="denied" if state in ENDS_BADLY else None)
    retried = runs.move("database 1", RefreshState.COMMITTED, reason="retried by uid 0")
    expect(retried.reason == "retried by uid 0", "and its reason is told")
    steps = runs.steps("database 1")
    expect(
        [step.state for step in steps]
        == [RefreshState.DRAWN, *PATHS[RefreshState.BLOCKED], RefreshState.COMMITTED],
        "in their order",
    )
    expect([step.note for step in steps[-2:]] == ["denied", "retried by uid 0"], "with notes")
    expect(all(step.at > 0 for step in steps), "and times")
    expect(retried.changed_at == steps[-1].at, "the last of them is the run's")
    expect(runs.steps("unknown") == (), "none of a run that is not known")


def runs_are_found_by_policy_and_by_name(sites: TwoSites) -> None:
    runs = sites.a.refreshes
    for number in (1, 2, 3, 4):
        runs.begin(a_run(number))
    runs.begin(a_run(policy="other"))
    for number, last in ((1, RefreshState.RETIRED), (2, RefreshState.DONE), (3, RefreshState.DONE)):
        for state in PATHS[last]:
            runs.move(f"database {number}", state)
    expect([run.generation for run in runs.history("database", 3)] == [4, 3, 2], "newest first")
    expect([run.generation for run in runs.done("database")] == [2, 3], "those in use")
    expect(runs.in_grace() == ("database",), "a policy with an earlier one in use")
    runs.move("database 2", RefreshState.RETIRED)
    expect(runs.in_grace() == (), "which is retired")
    found = {run.run_id for run in runs.runs(["database 4", "unknown", "other 1"])}
    expect(found == {"database 4", "other 1"}, "by name, those that are known")
    expect(runs.runs([]) == (), "or none")


def what_goes_wrong_is_an_alarm(sites: TwoSites) -> None:
    runs = sites.a.refreshes
    for number, state in ((1, RefreshState.BLOCKED), (2, RefreshState.ABORTED)):
        runs.begin(a_run(number))
        for step in PATHS[state]:
            runs.move(f"database {number}", step, reason="denied")
    alarms = sites.a.figures().alarms
    expect(alarms == {"refresh_blocked": 1, "refresh_aborted": 1}, "one each")


REFRESH_CHECKS = [
    a_run_is_recorded_once,
    another_run_does_not_take_its_place,
    only_the_moves_of_the_state_machine_are_made,
    a_move_keeps_what_it_is_told,
    a_move_may_depend_on_what_was_seen,
    unfinished_runs_are_listed_oldest_first,
    a_key_of_a_run_under_way_does_not_expire,
    every_move_is_a_step_with_its_time,
    runs_are_found_by_policy_and_by_name,
    what_goes_wrong_is_an_alarm,
]
