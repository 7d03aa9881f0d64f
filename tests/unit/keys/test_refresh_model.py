"""Every order in which two sites, their KMSs and their operators can act on one run.

Walked through to the last state, so what holds here holds for any interleaving: of steps, stale
knowledge, crashes, refusals, retries, supersedes, burnt keys, and leaders that were replaced. (All
of these together: `make campaign`.)
"""

import sys
from pathlib import Path

import pytest

from qkd_core.keys.refresh import Step

sys.path.insert(0, str(Path(__file__).parent))
import refresh_model as model
from refresh_model import Rules, S, World, is_over, stuck, walk
from refresh_promises import broken_promise

sys.path.pop(0)

NO_LATE = Rules(late="")
NOT_BURNT = NO_LATE._replace(burning=False)
CALM = Rules(crashes=False, refusals=False, late="", operators=False, burning=False)


@pytest.mark.parametrize(
    "rules",
    [NO_LATE, Rules(operators=False, burning=False)],
    ids=["operators and burnt keys", "leaders that were replaced and go on for a while"],
)
def test_no_order_of_events_breaks_a_promise(rules) -> None:
    walked = walk(rules, broken_promise)
    ends = {(w.a.run, w.b.run) for w in walked.edges if is_over(w)}
    assert {(S.DONE, S.DONE), (S.ABORTED, S.ABORTED)} <= ends
    assert ((S.SUPERSEDED, S.SUPERSEDED) in ends) == rules.operators
    print(f"{len(walked.edges)} worlds")


def test_an_operator_who_decides_on_what_was_true_a_moment_ago_breaks_one() -> None:
    """The model can fail: without the check in `RefreshStore.move` one site is done."""
    with pytest.raises(AssertionError, match=r"superseded|given up") as caught:
        walk(NOT_BURNT._replace(only_if_unchanged=False), broken_promise)
    assert "order: supersede" in str(caught.value)


def test_a_run_ends_by_itself_or_waits_for_an_operator() -> None:
    reached = walk(NOT_BURNT, broken_promise).edges

    def blocked(world: World) -> bool:
        return S.BLOCKED in (world.a.run, world.b.run)

    assert stuck(reached, CALM, lambda world: is_over(world) or blocked(world)) == []
    assert any(blocked(world) for world in reached)


def test_no_run_is_stuck_once_operators_act_and_nothing_refuses_any_more() -> None:
    reached = walk(NOT_BURNT, broken_promise).edges
    assert stuck(reached, CALM._replace(operators=True), is_over) == []


def test_a_key_that_is_let_go_before_the_record_leaves_a_run_stuck(monkeypatch) -> None:
    """The model can fail: why `Refreshing` records ``done`` before it erases the bytes."""
    monkeypatch.setitem(model.PROGRAMS, Step.AGREE, ("agree", "drop", S.DONE))
    reached = walk(NOT_BURNT, broken_promise).edges
    assert stuck(reached, CALM._replace(operators=True), is_over) != []
