"""One refresh run: how it is named, its steps, and what an operator decides of it."""

import json
from dataclasses import replace

import pytest

from keyferry.operator.socket import Caller
from keyferry.store.checks.examples import LATER, NOW, a_request
from keyferry.store.checks.refreshes import PATHS, a_run
from qkd_core.errors import ConfigError, KeyNotFound, PeerUnavailable
from qkd_core.types.keys import RefreshState

ALICE, BOB = Caller(1001), Caller(1002)


def show(operated, run):
    return operated.orders.handle({"order": "refresh-show", "run": run}, ALICE)


def resolve(operated, caller=ALICE, **request):
    return operated.orders.handle({"order": "refresh-resolve", "run": "backup", **request}, caller)


@pytest.fixture
def blocked(operated):
    """A run that this site has not written, at either site blocked, with its key held."""
    (held,) = operated.store.allocations.hold(a_request(), LATER)
    run = a_run(7, "backup", held.key_id)
    operated.store.refreshes.begin(run)
    for state in PATHS[RefreshState.BLOCKED]:
        operated.store.refreshes.move(run.run_id, state, reason=_reason(state))
    operated.errands.refreshes.runs_there[run.run_id] = replace(run, state=RefreshState.BLOCKED)
    return run


def _reason(state):
    return "denied" if state is RefreshState.BLOCKED else None


def test_the_steps_of_a_run_are_told_with_their_times_and_the_other_site_s_state(operated):
    operated.store.refreshes.begin(a_run(1, "backup"))
    operated.clock.time += 2
    operated.store.refreshes.move("backup 1", RefreshState.PREPARED)
    operated.errands.refreshes.runs_there["backup 1"] = replace(
        a_run(1, "backup"), state=RefreshState.ABORTED, reason="sealed"
    )
    told = show(operated, "backup 1")
    assert json.loads(json.dumps(told)) == told
    assert told["steps"] == [
        {"state": "drawn", "at": NOW, "note": None},
        {"state": "prepared", "at": NOW + 2, "note": None},
    ]
    assert told["peer"] == {"state": "aborted", "said": "sealed"}
    assert (told["policy"], told["generation"], told["state"]) == ("backup", 1, "prepared")


def test_a_peer_that_is_away_or_knows_nothing_is_said_so(operated):
    operated.store.refreshes.begin(a_run(1, "backup"))
    assert show(operated, "backup 1")["peer"] == {"state": None, "said": "does not know the run"}
    operated.errands.refreshes.trouble = PeerUnavailable("no route")
    assert show(operated, "backup 1")["peer"] == {"state": None, "said": "does not tell: no route"}


def test_a_run_is_named_by_its_id_its_policy_or_its_generation(operated):
    for number in (3, 5, 6):  # a KMS may be ahead of a new store: generations may be left out
        operated.store.refreshes.begin(a_run(number, "backup"))
        operated.store.refreshes.move(f"backup {number}", RefreshState.ABORTED)
    named = {
        name: show(operated, name)["generation"]
        for name in ("backup 5", "backup", "backup/3", "backup/6")
    }
    assert named == {"backup 5": 5, "backup": 6, "backup/3": 3, "backup/6": 6}


@pytest.mark.parametrize("name", ["none", "backup/4", "backup/0", "backup/99", "backup/x", "b/1"])
def test_a_name_of_no_run_is_one_line(operated, name):
    for number in (3, 5):
        operated.store.refreshes.begin(a_run(number, "backup"))
    with pytest.raises(ConfigError, match="no refresh run that is known here has this ID"):
        show(operated, name)


def test_a_retry_acts_at_once_and_names_who_ordered_it(operated, blocked):
    told = resolve(operated, how="retry")
    assert told["state"] == "committed"
    assert told["done"] == "try generation 7 of policy backup again"
    assert operated.store.refreshes.steps(blocked.run_id)[-1].note == "retried by uid 1001"


def test_what_is_not_blocked_is_not_retried(operated):
    operated.store.refreshes.begin(a_run(1, "backup"))
    with pytest.raises(ConfigError, match="is drawn, not blocked: nothing to retry"):
        resolve(operated, how="retry")


def test_superseding_takes_two_calls_and_burns_the_key(operated, blocked):
    would = resolve(operated, how="supersede")
    assert would["would"] == (
        f"give up generation 7 of policy backup and burn its key {blocked.key_id}, at both sites"
    )
    operated.store.allocations.read_held(blocked.key_id)  # nothing has happened yet
    assert operated.store.refreshes.run(blocked.run_id).state is RefreshState.BLOCKED

    told = resolve(operated, BOB, how="supersede", confirm=would["code"])
    assert (told["done"], told["state"]) == (would["would"], "superseded")
    assert told["reason"] == "superseded by uid 1001, confirmed by uid 1002"
    assert operated.store.policies.state("backup").due, "the next generation follows at once"
    with pytest.raises(KeyNotFound):
        operated.store.allocations.read_held(blocked.key_id)


def test_a_code_for_one_run_gives_up_no_other(operated, blocked):
    code = resolve(operated, how="supersede")["code"]
    operated.store.refreshes.begin(a_run(1, "other"))
    for state in PATHS[RefreshState.BLOCKED]:
        operated.store.refreshes.move("other 1", state)
    with pytest.raises(ConfigError, match="no such code for this order"):
        resolve(operated, run="other", how="supersede", confirm=code)
    assert operated.store.refreshes.run("other 1").state is RefreshState.BLOCKED


def test_a_refusal_to_supersede_comes_before_a_code(operated, blocked):
    operated.store.refreshes.move(blocked.run_id, RefreshState.COMMITTED)
    operated.store.refreshes.move(blocked.run_id, RefreshState.PUBLISHED, native_version=7)
    with pytest.raises(ConfigError, match="only one that is committed or blocked"):
        resolve(operated, how="supersede")
    operated.store.refreshes.move(blocked.run_id, RefreshState.BLOCKED, reason="denied")
    there = replace(blocked, state=RefreshState.PUBLISHED)
    operated.errands.refreshes.runs_there[blocked.run_id] = there
    with pytest.raises(ConfigError, match="the other site has the key too"):
        resolve(operated, how="supersede")
    operated.errands.refreshes.trouble = PeerUnavailable("no route")
    with pytest.raises(PeerUnavailable):
        resolve(operated, how="supersede")
    rows = operated.store.database.rows("SELECT count(*) FROM confirmations")
    assert rows == [(0,)]


@pytest.mark.parametrize("request_", [{}, {"how": "burn"}, {"how": "retry", "run": ""}])
def test_an_order_that_is_not_whole_is_refused(operated, blocked, request_):
    with pytest.raises(ConfigError):
        resolve(operated, **request_)
